"""The MMRM beside statsmodels and mixedlm-rs, from table to LS means; single thread, CPU seconds.

Goals (CPU seconds on one core of an AMD EPYC class machine, design matrix and LS means included): 300 x 5 with
Kenward-Roger 0.05; 2,000 x 8 with Satterthwaite 0.2, Kenward-Roger 0.3; 20,000 x 8 with Kenward-Roger 1.2; CR2 and CR3
at 20,000 x 8 2; 1,000 fits a second at 200 x 4; a million subjects by 8 visits in chunks 60.
KAPSTATS_BENCH_LARGE=1 adds the million.
"""

from __future__ import annotations

import importlib.util
import os
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
from kapstats.kernels.pattern_moments import moments
from kapstats.kernels.replicates import fit_replicates
from kapstats.kernels.scoring import fit as score
from kapstats.response.mmrm import turned_rows
from kapstats.response.repeated import prepare

FORMULA = "CHG ~ BASE*AVISIT + TRT01P*AVISIT + us(AVISIT | USUBJID)"
#: R 4.2.2, mmrm 0.3.18, reference BLAS, the same kind of machine, recorded once: Satterthwaite, Kenward-Roger (linear)
RECORDED = {"300 x 5": (0.216, 0.494), "2000 x 8": (3.87, 27.8), "20000 x 8": (37.9, 259.0)}


def simulate(n: int, visits: int, seed: int = 20250101, first: int = 0) -> pd.DataFrame:
    """Two arms, a baseline, correlated visits, monotone dropout of about 20 % at the end."""
    rng = np.random.default_rng(seed)
    lag = np.abs(np.subtract.outer(np.arange(visits), np.arange(visits)))
    root = np.linalg.cholesky(
        64 * 0.75**lag * np.sqrt(np.outer(1 + 0.1 * np.arange(visits), 1 + 0.1 * np.arange(visits)))
    )
    base, arm = rng.normal(33, 4.5, n).round(), rng.integers(0, 2, n)
    y = -4 - np.arange(visits) - 0.3 * (base - 33)[:, None] - 3 * arm[:, None] + rng.normal(size=(n, visits)) @ root.T
    gone = np.where(rng.random((n, visits)) < 0.03, np.arange(visits), visits).min(1)
    i, v = np.nonzero(np.arange(visits) < np.maximum(gone, 1)[:, None])
    return pd.DataFrame(
        {
            "USUBJID": i + first,
            "TRT01P": pd.Categorical.from_codes(arm[i], ["Placebo", "Active"], ordered=True),
            "AVISIT": pd.Categorical.from_codes(v, [f"Visit {k + 1}" for k in range(visits)], ordered=True),
            "BASE": base[i],
            "CHG": y[i, v],
        }
    )


def cpu(call: Callable[[], Any], repeats: int = 1) -> tuple[float, Any]:
    """CPU seconds of one call (the best of `repeats`), and what it returned."""
    best, value = np.inf, None
    for _ in range(repeats):
        start = time.process_time()
        value = call()
        best = min(best, time.process_time() - start)
    return best, value


def analysis(data: pd.DataFrame, df: str) -> Any:
    """From the table to the contrasts of the LS means."""
    return ks.mmrm(FORMULA, data, df=df).lsmeans("TRT01P", by="AVISIT").contrast()


def run() -> list[dict[str, Any]]:
    """One row per case and implementation; ratio = seconds over ours with the same inference."""
    warnings.simplefilter("ignore")
    analysis(simulate(60, 3), "kenward-roger")
    rows = []
    for n, visits in ((300, 5), (2000, 8), (20000, 8), (100000, 8)):
        rows += _case(n, visits)
    rows += _scaling()
    rows += _batch()
    rows += _chunks(1_000_000 if os.environ.get("KAPSTATS_BENCH_LARGE") else 50_000)
    return rows


def _row(case: str, what: str, seconds: float | None, ours: float, note: str = "") -> dict[str, Any]:
    ratio = "" if seconds is None else round(seconds / ours, 2)
    return {"case": case, "implementation": what, "seconds": seconds or "", "ratio": ratio, "note": note}


def _case(n: int, visits: int) -> list[dict[str, Any]]:
    case, data, repeats = f"{n} x {visits}", simulate(n, visits), 5 if n < 10_000 else 1
    kr, table = cpu(lambda: analysis(data, "kenward-roger"), repeats)
    sat, _ = cpu(lambda: analysis(data, "satterthwaite"), repeats)
    fit = ks.mmrm(FORMULA, data)
    note = f"log-likelihood {fit.loglik:.6f}, {len(data)} rows, last SE {table['std_error'].iloc[-1]:.6f}"
    rows = [
        _row(case, "kapstats, Satterthwaite, LS means", sat, sat),
        _row(case, "kapstats, Kenward-Roger, LS means", kr, kr, note),
        *_split(case, data, kr),
    ]
    if case in RECORDED:
        theirs = RECORDED[case]
        rows.append(_row(case, "R mmrm 0.3.18, Satterthwaite (recorded)", theirs[0], sat, "fit only"))
        rows.append(_row(case, "R mmrm 0.3.18, Kenward-Roger (recorded)", theirs[1], kr, "fit only"))
    if n <= 20_000:
        for vcov in ("CR2", "CR3"):
            seconds, _ = cpu(lambda vcov=vcov: fit.lsmeans("TRT01P", by="AVISIT", vcov=vcov).contrast())
            rows.append(_row(case, f"kapstats, {vcov} with its df, LS means", seconds, kr, f"peak {_peak():.0f} MB"))
    return rows + _statsmodels(case, data, sat, fit.loglik) + _mixedlm_rs(case, data, sat, fit.loglik)


def _split(case: str, data: pd.DataFrame, ours: float) -> list[dict[str, Any]]:
    """Where the time goes: table and design, statistics, iterations."""
    design, prepared = cpu(lambda: prepare(FORMULA, data))
    build, (_, stats) = cpu(lambda: _statistics(prepared))
    iterate, fits = cpu(lambda: score(stats, prepared.visits.structure("us"), True), 3)
    return [
        _row(case, "  of which table and design", design, ours),
        _row(case, "  of which statistics", build, ours, f"{len(stats.seen)} patterns"),
        _row(case, "  of which iterations", iterate, ours, f"{fits.iterations[0]} iterations"),
    ]


def _statistics(prepared: Any) -> Any:
    _, _, z = turned_rows(prepared.X, prepared.y)
    return z, moments(z, prepared.visits.arranged)


def _scaling() -> list[dict[str, Any]]:
    """The iterations alone, from 2,000 to 200,000 subjects on the same patterns."""
    rows: list[dict[str, Any]] = []
    first = 0.0
    for n in (2_000, 20_000, 200_000):
        prepared = prepare(FORMULA, simulate(n, 8))
        _, stats = _statistics(prepared)
        seconds, fits = cpu(lambda stats=stats, p=prepared: score(stats, p.visits.structure("us"), True), 5)
        first = first or seconds
        rows.append(_row(f"{n} x 8", "kapstats, iterations only", seconds, first, f"{fits.iterations[0]} iterations"))
    return rows


def _batch() -> list[dict[str, Any]]:
    """1,000 data sets of 200 subjects by 4 visits, each with its own dropout, Kenward-Roger for one contrast."""
    rng, n, m, b = np.random.default_rng(1), 200, 4, 1000
    arm, base = np.repeat([0.0, 1.0], n // 2), rng.normal(size=n)
    eye = np.broadcast_to(np.eye(m), (n, m, m))
    x = np.concatenate([eye, arm[:, None, None] * np.eye(m), base[:, None, None] * np.eye(m)], axis=2)
    y = rng.normal(size=(b, n, m)) + rng.normal(size=(b, n, 1))
    gone = np.where(rng.random((b, n, m)) < 0.07, np.arange(m), m).min(2)
    y[np.arange(m) >= np.maximum(gone, 1)[..., None]] = np.nan
    rows = np.zeros((1, 3 * m))
    rows[0, 2 * m - 1] = 1.0
    seconds, found = cpu(lambda: fit_replicates(x, y, rows), 2)
    note = f"{b / seconds:.0f} fits a second, {found.converged.mean():.1%} converged (R mmrm: 12 a second, recorded)"
    return [_row("1000 of 200 x 4", "kapstats, batch, Kenward-Roger", seconds, seconds, note)]


def _chunks(n: int, part: int = 50_000) -> list[dict[str, Any]]:
    """A parquet file read in chunks."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.parquet"
        _write(path, n, part)
        levels = {"TRT01P": ["Placebo", "Active"], "AVISIT": [f"Visit {k + 1}" for k in range(8)]}
        read = lambda: ks.MmrmStatistics.from_data(FORMULA, path, levels=levels, chunk_rows=400_000)  # noqa: E731
        seconds, stats = cpu(read)
        more, _ = cpu(lambda: stats.fit().lsmeans("TRT01P", by="AVISIT").contrast())
    note = f"statistics {seconds:.2f}, fit and LS means {more:.2f}, peak {_peak():.0f} MB of the process"
    return [_row(f"{n} x 8 parquet", "kapstats, chunks, Kenward-Roger, LS means", seconds + more, seconds + more, note)]


def _write(path: Path, n: int, part: int) -> None:
    import pyarrow as pa
    import pyarrow.parquet as parquet

    writer = None
    for k, first in enumerate(range(0, n, part)):
        table = pa.Table.from_pandas(simulate(min(part, n - first), 8, seed=k, first=first), preserve_index=False)
        writer = writer or parquet.ParquetWriter(path, table.schema)
        writer.write_table(table)
    assert writer is not None
    writer.close()


def _peak() -> float:
    """Peak memory of the process so far, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _statsmodels(case: str, data: pd.DataFrame, ours: float, loglik: float) -> list[dict[str, Any]]:
    """Unstructured covariance as random effects of visits; only where it ends in reasonable time."""
    if len(data) > 2_000:
        return [_row(case, "statsmodels MixedLM, visits as random effects", None, ours, "left out: minutes and more")]
    import statsmodels.formula.api as smf

    def call() -> Any:
        model = smf.mixedlm("CHG ~ BASE*AVISIT + TRT01P*AVISIT", data, groups="USUBJID", re_formula="0 + AVISIT")
        return model.fit(reml=True)

    seconds, fit = cpu(call)
    short = f"log-likelihood {fit.llf - loglik:+.1e} of ours, converged {fit.converged}; no df"
    return [_row(case, "statsmodels MixedLM, visits as random effects", seconds, ours, short)]


def _mixedlm_rs(case: str, data: pd.DataFrame, ours: float, loglik: float) -> list[dict[str, Any]]:
    """The fastest other Python fit of this likelihood (visits as random effects), where it is installed."""
    name = "mixedlm-rs, visits as random effects"
    if importlib.util.find_spec("mixedlm_rs") is None:
        theirs = {"300 x 5": 0.08, "2000 x 8": 0.58}.get(case)
        return (
            [] if theirs is None else [_row(case, f"{name} (recorded)", theirs, ours, "fit only; no df, no LS means")]
        )
    from mixedlm_rs import mixedlm

    plain = data.assign(AVISIT=data["AVISIT"].astype(str), TRT01P=data["TRT01P"].astype(str))
    seconds, fit = cpu(
        lambda: mixedlm("CHG ~ BASE*AVISIT + TRT01P*AVISIT", plain, groups="USUBJID", re_formula="0 + AVISIT").fit()
    )
    return [_row(case, name, seconds, ours, f"log-likelihood {fit.llf - loglik:+.1e} of ours; no df, no LS means")]
