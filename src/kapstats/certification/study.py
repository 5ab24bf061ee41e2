"""`certify`: what an estimator does over many replicates of a scenario whose truth is known."""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from kapstats._types import FloatArray
from kapstats.certification import execution, identity
from kapstats.certification.estimators import REGISTRY, Answer, Estimator, Row, named
from kapstats.certification.performance import COLUMNS, ESTIMATE, LOW, STD_ERROR, measures
from kapstats.data import output
from kapstats.errors import DataError, KapstatsError, check_level, choose
from kapstats.estimates import Estimates, meta
from kapstats.simulation.adam import assemble
from kapstats.simulation.draw import COMPONENTS, draw
from kapstats.simulation.scenario import Scenario, resolve
from kapstats.simulation.truth import PARTS, Truth, compute, digest, stored

#: columns of the truth that identify a row; TRT01A of a result answers to TRT01P
KEYS = (
    "contrast", "TRT01P", "AVISIT", "strategy", "time", "tau", "cause", "level", "AEBODSYS", "AEDECOD", "PARAMCD",
    "ATPTN",
)  # fmt: skip


#: how replicates are analysed
PATHS = ("batch", "verb")

#: those among them that are numbers
NUMBERS = ("time", "tau", "ATPTN")


@dataclass(frozen=True, slots=True)
class Task:
    """Everything a worker needs: picklable, and the same on every machine."""

    estimator: str | Callable[..., Any]
    scenario: Scenario
    n: int
    seed: int
    level: float
    targets: tuple[tuple[tuple[str, Any], ...], ...] = ()
    """what identifies the row of the truth behind every column of the results"""
    key: str | None = None
    path: str = "batch"


@dataclass(frozen=True, slots=True)
class Target:
    """A row of the truth: its label, value and Monte-Carlo error."""

    label: str
    value: float
    error: float


def label(row: Row) -> str:
    """The estimand as text.

    Examples
    --------
    >>> label({"quantity": "mean_difference", "contrast": "KAP IV - Placebo", "AVISIT": "Day 28"})
    'mean_difference: KAP IV - Placebo, Day 28'
    """
    held = [k for k in KEYS if row.get(k) not in (None, "")]
    parts = [f"{k} {row[k]:g}" if k in NUMBERS else str(row[k]) for k in held]
    if "contrast" in row and "TRT01P" in row:
        parts.remove(row["TRT01P"])
    return f"{row['quantity']}: {', '.join(parts)}"


def certify(
    estimator: str | Callable[..., Any],
    scenario: str | Scenario,
    replicates: int = 10_000,
    executor: Any = None,
    seed: int = 1,
    out: str | Path | None = None,
    *,
    n: int | None = None,
    level: float = 0.95,
    quantity: str | None = None,
    strategy: str | None = None,
    precision: float | None = None,
    chunk: int = 200,
    progress: bool | None = None,
    key: str | None = None,
    path: Literal["batch", "verb"] = "batch",
    **changes: Any,
) -> Estimates:
    """Bias, coverage, rejection and convergence of an estimator over replicates of a scenario.

    Parameters
    ----------
    estimator : a name (``kapstats.certification.estimators.REGISTRY``) or a callable that takes a `Trial` and returns
        `Estimates`, a fit's table or a data frame with columns ``estimate`` and, if it has them, ``std_error``,
        ``conf_low``, ``conf_high``, ``p_value``. Its identifying columns say which row of the truth it estimates.
    scenario : name or `Scenario`
    replicates : how many, at most when `precision` is given
    executor : None (this process), a number of processes, or anything with ``submit()`` (a process pool, a Dask client)
    seed : entropy of the replicates
    out : folder for the results and for the chunks from which an interrupted run resumes
    n : subjects per replicate
    quantity, strategy : the table of the truth, and the intercurrent-event strategy, that a callable estimates; by
        default the first table whose rows it identifies, and its first strategy (the hypothetical one)
    precision : stop once the Monte-Carlo error of every coverage is at most this; looked at every 1000 replicates
    chunk : replicates handed out at a time
    progress : report on standard error; by default when that is a terminal
    key : what tells a callable from another, for the chunks in `out`; by default a digest of its code, its closure, the
        functions it calls and the versions of the software
    path : "batch" analyses replicates as arrays, many at once; "verb" sends every replicate through the exported verb,
        from a table as users have it: slower, with the same numbers to 1e-8. A callable has one path only
    **changes : fields of the scenario to replace, as in `simulate`

    Returns
    -------
    Estimates
        One row per estimand: ``estimand truth truth_mcse replicates estimate bias bias_mcse empirical_se model_se
        se_ratio se_ratio_mcse coverage coverage_mcse rejection rejection_mcse convergence convergence_mcse``. Rows
        without a true value are left out. Times and the host are in ``.meta``; ``.meta["digest"]`` is a digest of
        every replicate's numbers, equal on every executor and for every chunk size.

    Raises
    ------
    DataError
        when nothing of what a callable returns can be found in the truth, without replicates, for a negative seed.

    Notes
    -----
    Replicate i draws from ``SeedSequence(seed, spawn_key=(scenario, i, component))``. Replicates are computed in blocks
    of a fixed size, so that neither executor nor chunks change the result.

    References
    ----------
    Morris TP, White IR, Crowther MJ. Using simulation studies to evaluate statistical methods. Stat Med 2019.
    doi 10.1002/sim.8086.

    Examples
    --------
    >>> result = certify("risk_difference", "kap-parallel", replicates=40, seed=3)
    >>> result.frame.columns[:3].tolist(), len(result)
    (['estimand', 'truth', 'truth_mcse'], 170)
    """
    check_level(level)
    choose(path, PATHS, "path")
    if replicates < 1 or seed < 0:
        raise DataError(
            f"certify: replicates={replicates}, seed={seed}; give at least 1 replicate and a seed of 0 or more."
        )
    chosen = resolve(scenario).change(**changes) if changes else resolve(scenario)
    known = named(estimator) if isinstance(estimator, str) else None
    size = chosen.subjects if n is None else n
    truth = rows_of_truth(chosen, known.parts if known else None)
    if known:
        found = wanted_rows(known, chosen, truth)
    else:
        found = _answered(estimator, chosen, size, seed, truth, quantity, strategy)
    logs = known.log if known else _on_log_scale(estimator, chosen, size, seed)
    targets = [target(r, logs) for r in found]
    task = Task(estimator, chosen, size, seed, level, tuple(identified(r) for r in found), key, path)
    folder = None if out is None else Path(out)
    began = time.perf_counter()
    results = _replicates(task, targets, replicates, executor, folder, precision, chunk, progress)
    frame = table(_judged(results, known), targets, level)
    seal = hashlib.sha256(np.ascontiguousarray(np.round(results, 12)).tobytes()).hexdigest()[:16]
    who = estimator if isinstance(estimator, str) else getattr(estimator, "__name__", "callable")
    described = meta(
        method=f"certificate of {who}", level=level, title=f"{who} on {chosen.name}, n = {size}",
        sentence=f"{len(results)} replicates of {chosen.name} with {size} subjects, seed {seed}.",
        data=digest(chosen), digest=seal, scenario=chosen.name, n=size, seed=seed, replicates=len(results), path=path,
        seconds=time.perf_counter() - began,
    )  # fmt: skip
    if folder is not None:
        text = frame.to_csv(index=False, float_format="%.10g", lineterminator="\n")
        output.write_file(folder / f"{_stem(task)}.csv", text.encode())
    return Estimates(frame, described)


def identified(row: Row) -> tuple[tuple[str, Any], ...]:
    """What identifies a row of the truth, in a form that can be sent and hashed."""
    return tuple((k, row[k]) for k in ("quantity", *KEYS) if k in row)


def target(row: Row, logs: bool) -> Target:
    """The row's label, value and error, on the log scale when the estimator works there."""
    if not logs:
        return Target(label(row), row["value"], row["mc_error"])
    return Target(f"{label(row)}, log", float(np.log(row["value"])), row["mc_error"] / row["value"])


def rows_of_truth(scenario: Scenario, parts: Sequence[str] | None) -> list[Row]:
    """The truth as one list of rows with their quantity; when it is not stored, only the components asked for."""
    known = stored(scenario.name) if scenario.name in _names() else None
    if known is None or known["digest"] != digest(scenario):
        known = _computed(scenario, tuple(p for p in PARTS if parts is None or p in parts))
    return [{"quantity": q, **r} for q, rows in known.items() if isinstance(rows, list) for r in rows]


@cache
def _computed(scenario: Scenario, parts: tuple[str, ...]) -> Truth:
    return compute(scenario, parts=parts)


def _names() -> list[str]:
    from kapstats.simulation.scenario import names

    return names()


def _same(wanted: Row, row: Row) -> bool:
    return all(k not in wanted or wanted[k] == row.get(k) for k in ("quantity", *KEYS))


def wanted_rows(known: Estimator, scenario: Scenario, truth: list[Row]) -> list[Row]:
    """The truth's row for each row that a built-in estimator answers, in its order."""
    out = []
    for wanted in known.rows(scenario):
        match = [r for r in truth if _same(wanted, r)]
        out.append(match[0] if match else {"value": np.nan, "mc_error": np.nan, **wanted})
    return out


# ------------------------------------------------------------------------------------------------ callables


def _frame(answer: Any) -> tuple[pd.DataFrame, bool]:
    """A callable's answer as a frame, and whether it is on a log scale."""
    if isinstance(answer, Estimates):
        return answer.frame, answer.meta.get("scale") == "log"
    if not isinstance(answer, pd.DataFrame) and hasattr(answer, "to_frame"):
        answer = answer.to_frame()
    return pd.DataFrame(answer), False


def _asked(frame: pd.DataFrame, scenario: Scenario) -> list[Row]:
    """What each row of an answer says it estimates, in the words of the truth.

    TRT01A stands for TRT01P; a coefficient ``TRT01PKAP IV`` for the contrast of that arm with the reference; a row
    called ``difference`` beside rows called ``rmst`` for ``rmst_difference``. Empty cells say nothing.
    """
    frame = frame.rename(columns={"TRT01A": "TRT01P"} if "TRT01P" not in frame else {})
    held = [c for c in ("quantity", "term", *KEYS) if c in frame.columns]
    rows = [{k: v for k, v in r.items() if not (v == "" or pd.isna(v))} for r in frame[held].to_dict("records")]
    base = next((r["quantity"] for r in rows if "quantity" in r), "")
    for row in rows:
        if row.get("quantity") == "difference":
            row["quantity"] = f"{base}_difference"
        if "term" in row:
            arm = next((a for a in scenario.arms[1:] if str(row["term"]).endswith(a.label)), None)
            row["contrast"] = f"{arm.label} - {scenario.reference.label}" if arm else row["term"]
            row.setdefault("quantity", "hazard_ratio")
    return rows


def _on_log_scale(estimator: Any, scenario: Scenario, n: int, seed: int) -> bool:
    return _frame(estimator(assemble(draw(scenario, n=n, seed=seed), truth=False)))[1]


def _answered(
    estimator: Any, scenario: Scenario, n: int, seed: int, truth: list[Row], quantity: str | None, strategy: str | None
) -> list[Row]:
    """The truth's row for each row that a callable returns on the first replicate; rows without one are left out."""
    frame, _ = _frame(estimator(assemble(draw(scenario, n=n, seed=seed), truth=False)))
    rows = [r for r in truth if strategy in (None, r.get("strategy"))]
    tables = list(dict.fromkeys(r["quantity"] for r in rows)) if quantity is None else [quantity]
    asked = [row for row in _asked(frame, scenario) if row]
    for name in tables:
        chosen = [{**({} if "quantity" in row and quantity is None else {"quantity": name}), **row} for row in asked]
        found = [_only(row, rows) for row in chosen]
        if any(found):
            return [r for r in found if r is not None]
    shown = ", ".join(map(str, frame.columns[:6]))
    raise DataError(
        f"certify: no row of the estimator's answer (columns {shown}) means one row of the truth of {scenario.name};"
        f" the columns that identify it are {', '.join(KEYS)}. Tables of the truth: {', '.join(tables)}."
    )


def _only(row: Row, truth: list[Row]) -> Row | None:
    """The one row of the truth that is meant; strategies apart, a row that fits several (no visit named) means none."""
    fits = [r for r in truth if _same(row, r)]
    apart = {tuple((k, r.get(k)) for k in KEYS if k != "strategy") for r in fits}
    return fits[0] if len(apart) == 1 else None


def _call(task: Task, replicate: int) -> FloatArray:
    """(rows, 6) of one replicate of a callable: failures and missing rows are NaN, not converged."""
    out = np.full((len(task.targets), 6), np.nan)
    out[:, -1] = 0.0
    trial = assemble(draw(task.scenario, n=task.n, seed=task.seed, replicate=replicate), truth=False)
    assert callable(task.estimator)
    try:
        frame, _ = _frame(task.estimator(trial))
    except KapstatsError:
        return out
    names = ("estimate", "std_error", "conf_low", "conf_high", "p_value")
    numbers = np.column_stack([pd.to_numeric(frame[c]) if c in frame else np.full(len(frame), np.nan) for c in names])
    targets = [dict(t) for t in task.targets]
    for row, values in zip(_asked(frame, task.scenario), numbers, strict=True):
        if not row or not np.isfinite(values[0]):
            continue
        for i, wanted in enumerate(targets):
            if _same(row, wanted) and np.isnan(out[i, 0]):
                out[i] = [*values, 1.0]
                break
    return out


# ------------------------------------------------------------------------------------------------ replicates


def work(task: Task, start: int, stop: int) -> FloatArray:
    """(replicates, rows, 6) of replicates start .. stop - 1: estimate, error, limits, p value, converged."""
    if callable(task.estimator):
        return np.stack([_call(task, i) for i in range(start, stop)])
    known = named(task.estimator)
    parts = []
    for first in range(start, stop, execution.BLOCK):
        which = range(first, min(first + execution.BLOCK, stop))
        draws = [draw(task.scenario, task.n, task.seed, i, [p for p in known.parts if p in COMPONENTS]) for i in which]
        parts.append(numbers(known.along(task.path)(task.scenario, draws, task.level)))
    return np.concatenate(parts)


def numbers(answer: Answer) -> FloatArray:
    """(replicates, rows, 6) of an answer."""
    columns = (answer.estimate, answer.std_error, answer.low, answer.high, answer.p, answer.converged.astype(float))
    return np.stack(columns, axis=-1)


def _stem(task: Task) -> str:
    who = task.estimator if isinstance(task.estimator, str) else getattr(task.estimator, "__name__", "callable")
    way = "" if task.path == "batch" else f"-{task.path}"
    return f"{who}-{task.scenario.name}-n{task.n}-seed{task.seed}{way}".replace("<", "").replace(">", "")


def _cache(task: Task, folder: Path | None) -> Path | None:
    """Where the chunks of this very task are kept: another estimator, version, scenario or level has another place."""
    if folder is None:
        return None
    own = task.key or (task.estimator if isinstance(task.estimator, str) else identity.of_callable(task.estimator))
    said = repr((own, identity.software(), digest(task.scenario), task.n, task.seed, task.level, task.targets))
    return folder / "chunks" / f"{_stem(task)}-{hashlib.sha256(said.encode()).hexdigest()[:12]}"


def _replicates(
    task: Task, targets: list[Target], replicates: int, executor: Any, folder: Path | None, precision: float | None,
    chunk: int, progress: bool | None,
) -> FloatArray:  # fmt: skip
    """All replicates in order, in waves when there is a precision to reach."""
    loud = sys.stderr.isatty() if progress is None else progress
    done: dict[execution.Chunk, FloatArray] = {}
    todo = execution.chunks(replicates, chunk)

    def tell(now: dict[execution.Chunk, FloatArray]) -> None:
        if loud:
            _report(task, targets, done | now, replicates)

    with execution.submitting(executor) as submit:
        wave = len(todo) if precision is None else max(1, 1000 // max(todo[0][1], 1))
        for first in range(0, len(todo), wave):
            done |= execution.run(work, task, todo[first : first + wave], submit, _cache(task, folder), tell)
            if precision is not None and _error_of_coverage(_ordered(done), targets) <= precision:
                break
    return _ordered(done)


def _ordered(done: dict[execution.Chunk, FloatArray]) -> FloatArray:
    return np.concatenate([done[c] for c in sorted(done)])


def _error_of_coverage(results: FloatArray, targets: list[Target]) -> float:
    """The largest Monte-Carlo error of a coverage so far."""
    value = np.array([t.value for t in targets])
    low, high = results[:, :, LOW], results[:, :, LOW + 1]
    hit = ((low <= value) & (value <= high)).mean(axis=0)[np.isfinite(low).any(axis=0)]
    return float(np.sqrt(hit * (1 - hit) / len(results)).max(initial=0.0))


def _report(task: Task, targets: list[Target], done: dict[execution.Chunk, FloatArray], total: int) -> None:
    results = _ordered(done)
    error = 100 * _error_of_coverage(results, targets)
    print(
        f"\r{_stem(task)}: {len(results)} of {total}, largest Monte-Carlo error of coverage {error:.2f} points",
        end="\n" if len(results) == total else "", file=sys.stderr, flush=True,
    )  # fmt: skip


def _judged(results: FloatArray, known: Estimator | None) -> FloatArray:
    """The results as they are measured: without the estimate of a ratio that is judged by its limits."""
    if known is None or not known.by_limits:
        return results
    shown = results.copy()
    shown[..., [ESTIMATE, STD_ERROR]] = np.nan
    return shown


def table(results: FloatArray, targets: list[Target], level: float) -> pd.DataFrame:
    """One row of measures per estimand that has a true value, in the order of the estimator."""
    rows = [
        {"estimand": t.label, **measures(results[:, i], t.value, t.error, level)}
        for i, t in enumerate(targets)
        if np.isfinite(t.value) and results[:, i, ESTIMATE:].size
    ]
    return pd.DataFrame(rows, columns=["estimand", *COLUMNS])


def catalogue() -> list[str]:
    """Names that `certify` knows.

    Examples
    --------
    >>> "mmrm" in catalogue()
    True
    """
    return sorted(REGISTRY)
