"""Replay: the first replicates of a certificate by the batch and by the exported verb, number by number.

python -m kapstats.certification.replay docs/certificates/replay.tsv                # 200 replicates of each
python -m kapstats.certification.replay replay.tsv --only mmrm --replicates 20
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from kapstats.certification.estimators import CERTIFICATES, NO_VERB, Certificate, named, scenario
from kapstats.certification.study import Task, work

#: what the two paths may differ by
TOLERANCE = 1e-8
REPLICATES = 200


@dataclass(frozen=True, slots=True)
class Replay:
    """How far two paths differ over all numbers of the replicates; `missing` counts those that only one path has."""

    estimator: str
    scenario: str
    n: int
    control: bool
    replicates: int
    numbers: int
    largest_difference: float
    missing: int
    verdict: str

    @property
    def same(self) -> bool:
        """Whether every number is the same up to the tolerance."""
        return self.missing == 0 and self.largest_difference <= TOLERANCE


def replay(certificate: Certificate, replicates: int = REPLICATES, seed: int = 1, level: float = 0.95) -> Replay:
    """The replicates of one certificate along both paths.

    Where the batch is the exported verb itself, or a control is nobody's verb, there is nothing to compare.
    """
    key = (certificate.estimator, certificate.scenario, certificate.n, certificate.control)
    if named(certificate.estimator).verb is None:
        return Replay(*key, 0, 0, 0.0, 0, NO_VERB.get(certificate.estimator, "the batch is the verb"))
    chosen = scenario(certificate.scenario)
    tasks = (Task(certificate.estimator, chosen, certificate.n, seed, level, path=p) for p in ("batch", "verb"))
    batch, verb = (work(task, 0, replicates) for task in tasks)
    known = np.isfinite(batch) & np.isfinite(verb)
    apart = np.abs(np.where(known, batch, 0.0) - np.where(known, verb, 0.0))
    missing = int((~known & ~((batch == verb) | (np.isnan(batch) & np.isnan(verb)))).sum())
    found = Replay(*key, replicates, batch.size, float(apart.max()), missing, "")
    return Replay(**{**asdict(found), "verdict": "same" if found.same else "DIFFERENT"})


def record(path: Path, found: Sequence[Replay]) -> None:
    """Write the table, keeping the rows of certificates that were not replayed now."""
    keys = ["estimator", "scenario", "n", "control"]
    rows = pd.DataFrame([asdict(r) for r in found])
    if path.exists():
        rows = pd.concat([pd.read_csv(path, sep="\t"), rows]).drop_duplicates(keys, keep="last")
    place = {(c.estimator, c.scenario, c.n, c.control): i for i, c in enumerate(CERTIFICATES)}
    rows = rows.iloc[np.argsort([place.get(tuple(k), -1) for k in rows[keys].itertuples(index=False)], kind="stable")]
    rows.to_csv(path, sep="\t", index=False, float_format="%.2g", lineterminator="\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Replay every certificate, or those asked for; 1 when one differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path)
    parser.add_argument("--only", default="", help="certificates whose name begins so")
    parser.add_argument("--replicates", type=int, default=REPLICATES)
    options = parser.parse_args(arguments)
    found = []
    for certificate in (c for c in CERTIFICATES if c.name.startswith(options.only)):
        found.append(replay(certificate, options.replicates))
        record(options.table, found[-1:])
        print(f"{certificate.name}: {found[-1].verdict}", flush=True)
    return int(not all(r.same for r in found))


if __name__ == "__main__":
    raise SystemExit(main())
