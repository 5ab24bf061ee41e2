"""The published certificates: which estimator, on which scenario, how many replicates, and which controls must fail.

    python -m kapstats.certification.programme docs/certificates            # run what is missing or too short
    python -m kapstats.certification.programme docs/certificates --only mmrm --processes 8 --replay

Each certificate is one CSV of measures; an interrupted run resumes from its chunks.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kapstats import estimates
from kapstats.certification import replay
from kapstats.certification.estimators import CERTIFICATES, Certificate, scenario
from kapstats.certification.execution import BLOCK
from kapstats.certification.performance import failing
from kapstats.certification.study import certify
from kapstats.estimates import Estimates

#: columns whose Monte-Carlo sampling is the same on every machine up to this relative difference
TOLERANCE = 1e-6

#: in the order of the families
PROGRAMME = CERTIFICATES


def certificates() -> Estimates:
    """The published certificates.

    Returns
    -------
    Estimates
        One row per certificate: ``estimator scenario n control replicates note``. The first three are what `certify`
        takes; a negative control (`control`) is a method in use that must fail; `replicates` as published.

    Examples
    --------
    >>> found = certificates()
    >>> found.filter(estimator="rmst", control=False)["n"].tolist()
    [176, 1200]
    """
    columns = ("estimator", "scenario", "n", "control", "replicates", "note")
    rows = pd.DataFrame([[getattr(c, name) for name in columns] for c in PROGRAMME], columns=list(columns))
    return Estimates(
        rows, estimates.meta(method="published certificates", level=None, title="Certificates", sentence="")
    )


def run(certificate: Certificate, folder: Path, executor: Any = None, chunks: Path | None = None) -> pd.DataFrame:
    """Run one certificate and write its measures; with a folder for `chunks` it can be resumed."""
    chosen, n = scenario(certificate.scenario), certificate.n
    frame = certify(certificate.estimator, chosen, certificate.replicates, executor, seed=1, out=chunks, n=n).frame
    folder.mkdir(parents=True, exist_ok=True)
    frame.to_csv(folder / f"{certificate.name}.csv", index=False, float_format="%.8g", lineterminator="\n")
    return frame


def replicates(certificate: Certificate, folder: Path) -> int:
    """How many replicates the kept measures are of; 0 when there are none."""
    path = folder / f"{certificate.name}.csv"
    return int(pd.read_csv(path, usecols=["replicates"])["replicates"].max()) if path.exists() else 0


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
    parser.add_argument("--most", type=int, default=10**9, help="replicates at most, for a run in less time")
    parser.add_argument("--again", action="store_true", help="also those that have a result")
    parser.add_argument(
        "--replay", type=int, nargs="?", const=replay.REPLICATES, default=0, metavar="N",
        help="send the first N replicates of what is run through the exported verb too (%(const)s; 0: none)",
    )  # fmt: skip
    options = parser.parse_args(arguments)
    pool = options.processes if options.processes > 1 else None
    for certificate in (c for c in PROGRAMME if c.name.startswith(options.only)):
        chosen = dataclasses.replace(certificate, replicates=min(certificate.replicates, options.most))
        if options.again or replicates(certificate, options.folder) < chosen.replicates:
            frame = run(chosen, options.folder, pool, options.chunks)
            passed = verdict(certificate, frame)
            expected = passed != certificate.control
            word = "passes" if passed else "fails"
            print(f"{certificate.name}: {word}{'' if expected else '  (not as expected)'}", flush=True)
            if options.replay:
                found = replay.replay(certificate, options.replay)
                replay.record(options.folder / "replay.tsv", [found])
                print(f"{certificate.name}: verb and batch: {found.verdict}", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
