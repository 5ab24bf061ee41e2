"""The published certificates: which estimator, on which scenario, how many replicates, and which controls must fail.

    python -m kapstats.certification.programme docs/certificates            # run what is missing or incomplete
    python -m kapstats.certification.programme docs/certificates --only mmrm --processes 8

Each certificate is one CSV of measures; an interrupted run resumes from its chunks.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kapstats.certification.execution import BLOCK
from kapstats.certification.performance import failing
from kapstats.certification.study import certify
from kapstats.simulation.scenario import Scenario, load

#: columns whose Monte-Carlo sampling is the same on every machine up to this relative difference
TOLERANCE = 1e-6


@dataclass(frozen=True, slots=True)
class Certificate:
    """One study. `control`: the method is known to fail here; a certificate that did not see it would be worthless."""

    estimator: str
    scenario: str
    n: int
    replicates: int = 10_000
    control: bool = False
    note: str = ""

    @property
    def name(self) -> str:
        """File name without its ending."""
        return f"{self.estimator}--{self.scenario}--n{self.n}"


def two_arms() -> Scenario:
    """Placebo and one active arm of kap-parallel, scores only: the small trial of the small-sample certificates."""
    whole = load("kap-parallel")
    bare = whole.change(relapse=None, adverse_events=None, course=None, dosing=None)
    return bare.change(name="kap-two-arms", arms=whole.arms[:2])


def scenario(name: str) -> Scenario:
    """A scenario of the programme by name."""
    if name.startswith("kap-two-arms"):
        return two_arms().null() if name.endswith("-null") else two_arms()
    return load(name)


PROGRAMME: tuple[Certificate, ...] = (
    Certificate("mmrm", "kap-parallel", 240),
    Certificate("mmrm", "kap-parallel-null", 240, note="rejection is the type I error"),
    Certificate("mmrm", "kap-two-arms", 20, note="ten subjects per arm"),
    Certificate("mmrm", "kap-two-arms", 40, 2_000),
    Certificate("mmrm", "kap-two-arms", 80, 2_000),
    Certificate("mmrm-satterthwaite", "kap-two-arms", 20, 5_000, note="ten subjects per arm"),
    Certificate("mmrm-z", "kap-two-arms", 20, 5_000, control=True, note="normal quantiles at ten subjects per arm"),
    Certificate("mmrm", "kap-crossover", 40, 2_000),
    Certificate("mmrm", "kap-factorial", 200, 2_000),
    Certificate("lmm", "kap-two-arms", 12, 1_000, note="change at the last visit, random sites, six per arm"),
    Certificate("lmm-z", "kap-two-arms", 12, 1_000, control=True, note="normal quantiles with few sites"),
    Certificate("impute-j2r-jackknife", "kap-two-arms-null", 40, 200, note="the null twin, where J2R is the truth"),
    Certificate("kaplan_meier", "kap-parallel", 240, note="about 20 responders per arm"),
    Certificate("kaplan_meier", "kap-parallel", 1200, 2_000),
    Certificate("kaplan_meier", "kap-withdrawal", 176),
    Certificate("kaplan_meier-plain", "kap-parallel", 240, control=True, note="limits on the plain scale, small arms"),
    Certificate("cox", "kap-parallel", 480),
    Certificate("cox", "kap-parallel", 1200, 2_000),
    Certificate("cox", "kap-parallel-null", 480),
    Certificate("parametric_survival-weibull", "kap-parallel", 480, 1_000, note="relapse between two visits"),
    Certificate("logrank", "kap-parallel-null", 480, note="rejection is the type I error"),
    Certificate("rmst", "kap-withdrawal", 176),
    Certificate("rmst", "kap-parallel", 1200, 2_000),
    Certificate("rmst", "kap-parallel", 240, 5_000, control=True, note="about 20 responders per arm are too few"),
    Certificate("risk_difference", "kap-parallel", 240),
    Certificate("risk_difference-newcombe", "kap-parallel", 240),
    Certificate("risk_difference-wald", "kap-parallel", 240, control=True, note="rare events"),
    Certificate("proportion", "kap-parallel", 240),
    Certificate("proportion-wald", "kap-parallel", 240, control=True, note="rare events"),
    Certificate("aalen-johansen", "kap-cohort", 600, 1_000),
    Certificate("1-km", "kap-cohort", 600, 1_000, control=True, note="stopping treatment counted as censoring"),
    Certificate("risk_difference-standardised", "kap-registry", 2000, 200),
    Certificate("risk_difference-pooled", "kap-registry", 2000, 200, control=True, note="routes pooled naively"),
)


def run(certificate: Certificate, folder: Path, executor: Any = None, chunks: Path | None = None) -> pd.DataFrame:
    """Run one certificate and write its measures; with a folder for `chunks` it can be resumed."""
    chosen, n = scenario(certificate.scenario), certificate.n
    frame = certify(certificate.estimator, chosen, certificate.replicates, executor, seed=1, out=chunks, n=n).frame
    folder.mkdir(parents=True, exist_ok=True)
    frame.to_csv(folder / f"{certificate.name}.csv", index=False, float_format="%.8g", lineterminator="\n")
    return frame


def verdict(certificate: Certificate, frame: pd.DataFrame, level: float = 0.95) -> bool:
    """Whether every estimand of the certificate passes."""
    return not any(failing(frame, level))


def slice_of(certificate: Certificate, replicates: int = BLOCK) -> pd.DataFrame:
    """The first replicates of a certificate again: what a test can afford."""
    chosen = scenario(certificate.scenario)
    return certify(certificate.estimator, chosen, replicates, seed=1, n=certificate.n).frame


def agrees(certificate: Certificate, kept: pd.DataFrame, again: pd.DataFrame) -> bool:
    """Whether a slice is what the published certificate makes likely: same rows and truth, means within 5 errors."""
    same = kept.estimand.tolist() == again.estimand.tolist() and np.allclose(kept.truth, again.truth, atol=TOLERANCE)
    if not same or kept.empirical_se.isna().all():
        return same
    count = again.replicates * again.convergence
    far = np.abs(again.estimate - kept.estimate) / (kept.empirical_se / np.sqrt(count))
    return bool((far[np.isfinite(far)] < 5).all())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the certificates that have no result yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", default="", help="certificates whose name begins so")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--chunks", type=Path, help="folder for the chunks from which a run resumes")
    parser.add_argument("--again", action="store_true", help="also those that have a result")
    options = parser.parse_args(arguments)
    pool = options.processes if options.processes > 1 else None
    for certificate in PROGRAMME:
        done = (options.folder / f"{certificate.name}.csv").exists() and not options.again
        if certificate.name.startswith(options.only) and not done:
            frame = run(certificate, options.folder, pool, options.chunks)
            passed = verdict(certificate, frame)
            expected = passed != certificate.control
            word = "passes" if passed else "fails"
            print(f"{certificate.name}: {word}{'' if expected else '  (not as expected)'}", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
