"""Safety: intervals of thousands of tables, exact tests, counts of adverse events; beside statsmodels and scipy."""

from __future__ import annotations

import resource
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import kapstats as ks
from kapstats.kernels import unconditional
from kapstats.safety.streamed import count_partitions

TABLES = 5_000
CLOSED = (
    [(ks.risk_difference, m) for m in ("wald", "wald-cc", "newcombe", "newcombe-cc", "agresti-caffo")]
    + [(ks.risk_difference, m) for m in ("hauck-anderson", "mover-jeffreys")]
    + [(ks.risk_difference, m) for m in ("miettinen-nurminen", "farrington-manning", "scas")]
    + [(ks.risk_ratio, m) for m in ("katz", "walter", "mover", "miettinen-nurminen", "koopman", "scas")]
    + [(ks.odds_ratio, m) for m in ("woolf", "gart", "agresti", "miettinen-nurminen", "cornfield")]
)


def run() -> list[dict[str, Any]]:
    """Rows: case, implementation, seconds (CPU), ratio (their seconds over ours, for the same work), note."""
    warnings.simplefilter("ignore")
    return [*_intervals(), *_exact(), *_counting(), *_streamed()]


def _timed(work: Callable[[], Any]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def _best(work: Callable[[], Any], repeats: int = 3) -> float:
    return min(_timed(work) for _ in range(repeats))


def _tables(size: int = TABLES) -> tuple[np.ndarray, ...]:
    generator = np.random.default_rng(1)
    n1, n2 = generator.integers(40, 301, (2, size))
    return generator.binomial(n1, 0.12), n1, generator.binomial(n2, 0.07), n2


def _row(case: str, who: str, seconds: float, ratio: float | str = "", note: str = "") -> dict[str, Any]:
    return {"case": case, "implementation": who, "seconds": seconds, "ratio": ratio, "note": note}


def _intervals() -> list[dict[str, Any]]:
    from scipy.stats import fisher_exact
    from statsmodels.stats.proportion import confint_proportions_2indep as peer

    table = _tables()
    case = f"{TABLES} tables x {len(CLOSED)} closed-form and score methods"
    ours = _best(lambda: [call(*table, method=method) for call, method in CLOSED])
    rows = [_row(case, "kapstats", ours, "", "target < 1 s")]
    few = 100
    head = [v[:few] for v in table]
    score = _best(lambda: ks.risk_difference(*table))
    theirs = _timed(
        lambda: [_quiet(peer, *map(int, t), compare="diff", method="score") for t in zip(*head, strict=True)]
    )
    scaled = theirs * TABLES / few
    rows.append(_row(f"{TABLES} Miettinen-Nurminen differences", "kapstats", score))
    rows.append(_row("the same", "statsmodels loop", scaled, scaled / score, f"{few} tables, scaled"))
    exact = _timed(lambda: ks.odds_ratio(*table, method="conditional-exact"))
    cells = [[[a, n - a], [b, m - b]] for a, n, b, m in zip(*(v.tolist() for v in head), strict=True)]
    fisher = _timed(lambda: [fisher_exact(t) for t in cells]) * TABLES / few
    rows.append(_row(f"{TABLES} conditional exact odds ratios with Fisher p", "kapstats", exact))
    rows.append(_row("Fisher p only", "scipy loop", fisher, fisher / exact, f"{few} tables, scaled"))
    return rows


def _quiet(call: Callable[..., Any], *args: Any, **options: Any) -> Any:
    try:
        return call(*args, **options)
    except (ValueError, ZeroDivisionError, FloatingPointError):
        return None


def _exact() -> list[dict[str, Any]]:
    from scipy.stats import barnard_exact, boschloo_exact

    rows = []
    for name, ours, peer in (
        ("Boschloo", unconditional.boschloo_p, boschloo_exact),
        ("Barnard", unconditional.barnard_p, barnard_exact),
    ):
        big = _best(lambda ours=ours: ours(250, 500, 220, 500))
        small = _best(lambda ours=ours: ours(30, 100, 18, 100))
        theirs = _timed(lambda peer=peer: peer([[30, 18], [70, 82]]))
        rows += [
            _row(f"{name} 500 v 500", "kapstats", big, "", "target < 1 s" if name == "Boschloo" else ""),
            _row(f"{name} 100 v 100", "kapstats", small),
            _row("the same", "scipy", theirs, theirs / small),
        ]
    rows.append(
        _row(
            "Chan-Zhang limits 60 v 60",
            "kapstats",
            _timed(lambda: unconditional.chan_zhang_limits(30, 60, 18, 60, 0.025)),
        )
    )
    return rows


def simulated(records: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """ADSL with records/20 subjects in three arms, and ADAE with 400 terms in 25 body systems."""
    generator = np.random.default_rng(2)
    n = max(records // 20, 1)
    number = generator.integers(0, 3, n)
    ids = np.array([f"S-{i:08d}" for i in range(n)], dtype=object)
    arms = np.array(["Placebo", "IV", "Oral"], dtype=object)[number]
    adsl = pd.DataFrame({"USUBJID": ids, "TRT01A": arms, "TRT01AN": number, "SAFFL": "Y"})
    who, term = generator.integers(0, n, records), generator.integers(0, 400, records)
    systems = np.array([f"System {i}" for i in range(25)], dtype=object)
    names = np.array([f"Term {i}" for i in range(400)], dtype=object)
    columns = {"USUBJID": ids[who], "AEBODSYS": systems[term % 25], "AEDECOD": names[term], "TRTEMFL": "Y"}
    return adsl, pd.DataFrame(columns)


def _counting() -> list[dict[str, Any]]:
    rows = []
    for records, target in ((200_000, "target < 0.2 s"), (1_000_000, "target < 1 s")):
        adsl, adae = simulated(records)
        ours = _best(lambda adae=adae, adsl=adsl: ks.incidence(adae, adsl))
        plain = _timed(lambda adae=adae, adsl=adsl: _pandas(adae, adsl))
        rows.append(_row(f"ADAE of {records:,} records", "kapstats incidence", ours, "", target))
        rows.append(_row("distinct subjects of three levels", "pandas groupby nunique", plain, plain / ours))
    return rows


def _pandas(adae: pd.DataFrame, adsl: pd.DataFrame) -> list[Any]:
    joined = adae.merge(adsl[["USUBJID", "TRT01A"]], on="USUBJID")
    keys = (["TRT01A"], ["TRT01A", "AEBODSYS"], ["TRT01A", "AEBODSYS", "AEDECOD"])
    return [joined.groupby(k)["USUBJID"].agg(["nunique", "size"]) for k in keys]


def _streamed(sizes: tuple[int, ...] = (1_000_000, 10_000_000), per_file: int = 500_000) -> list[dict[str, Any]]:
    rows = []
    for records in sizes:
        with tempfile.TemporaryDirectory() as folder:
            adsl = _write(Path(folder), records, per_file)
            seconds = _timed(lambda folder=folder, adsl=adsl: count_partitions(folder, adsl))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        rows.append(
            _row(f"{records:,} records in parquet by subject", "kapstats streamed", seconds, "", f"peak {peak:.1f} GB")
        )
    return rows


def _write(folder: Path, records: int, per_file: int) -> pd.DataFrame:
    parts = []
    for part in range(max(records // per_file, 1)):
        adsl, adae = simulated(min(per_file, records))
        prefix = f"P{part:04d}-"
        adae.assign(USUBJID=prefix + adae.USUBJID).to_parquet(folder / f"{part:04d}.parquet", index=False)
        parts.append(adsl.assign(USUBJID=prefix + adsl.USUBJID))
    return pd.concat(parts, ignore_index=True)
