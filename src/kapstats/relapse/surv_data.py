"""From a Surv formula and a table to arrays: the one way into every analysis of the relapse pillar.

It checks times and events, counts what is missing, and says both in one sentence.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from kapstats import frames
from kapstats._types import BoolArray, FloatArray, FrameLike, IntArray
from kapstats.data import contract
from kapstats.errors import DataError, FormulaError, choose, first_ids, nearest, warn
from kapstats.formula.expressions import columns_in, complete_rows, evaluate
from kapstats.formula.split import Formula, Surv, cut, parse
from kapstats.kernels.risk_sets import merge_close, snap

CONVENTIONS = ("R", "SAS")
SUBJECT = "USUBJID"


@dataclass(frozen=True, slots=True)
class Groups:
    """Rows sorted into the combinations of some columns that occur.

    frame : one row per group, the columns with their values, in level order (the first column varies slowest)
    codes : (n,) group of each row
    factors : the levels of each column
    """

    frame: pd.DataFrame
    codes: IntArray
    factors: dict[str, frames.Levels]

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def labels(self) -> tuple[str, ...]:
        """``TRT01P=KAP, SEX=F`` per group; empty text when there are no columns."""
        columns = list(self.frame.columns)
        return tuple(", ".join(f"{n}={v}" for n, v in zip(columns, row, strict=True)) for row in self._texts())

    @property
    def names(self) -> tuple[str, ...]:
        """``KAP F`` per group, the way a contrast names it; empty text when there are no columns."""
        return tuple(" ".join(row) for row in self._texts())

    def _texts(self) -> list[list[str]]:
        """The values as text, whole numbers without a decimal point; nothing when there are no columns."""
        if not len(self.frame.columns):
            return [[] for _ in range(len(self))]
        rows = self.frame.itertuples(index=False, name=None)
        return [[f"{v:g}" if isinstance(v, float) and v.is_integer() else str(v) for v in row] for row in rows]


@dataclass(frozen=True, slots=True)
class SurvData:
    """The rows used, as arrays.

    frame : (n rows) the columns of the rows used, index 0..n-1; kept : (n,) their positions in the input
    time, event : (n,) follow-up time and whether it ends with the event (all NaN / False for interval data)
    entry : (n,) time of entry, or None when every row is followed from 0
    status, causes : (n,) 0 for censored, else 1-based position in `causes` (competing risks only)
    left, right : (n,) interval (left, right] that holds the event, right = inf when censored (interval data only)
    weights : (n,) case weights or None; cluster : (n,) codes or None; strata : the groups of strata()
    missing : rows missing per column; n_input : rows given; zero_weight : rows left out for weight 0
    """

    formula: Formula
    frame: pd.DataFrame
    kept: IntArray
    time: FloatArray
    event: BoolArray
    entry: FloatArray | None
    status: IntArray | None
    causes: tuple[Any, ...]
    left: FloatArray | None
    right: FloatArray | None
    weights: FloatArray | None
    cluster: IntArray | None
    strata: Groups
    missing: dict[str, int]
    n_input: int
    zero_weight: int
    kind: str
    data_print: str
    landmark: float | None = None
    before_landmark: int = 0
    warnings: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.kept)

    @property
    def n_subjects(self) -> int:
        """Distinct USUBJID or cluster values, else rows."""
        if SUBJECT in self.frame.columns:
            return int(self.frame[SUBJECT].nunique())
        return len(self) if self.cluster is None or self.entry is None else len(np.unique(self.cluster))

    @property
    def n_events(self) -> int:
        return int(self.event.sum())

    def sentence(self) -> str:
        """``120 of 123 records, 120 subjects, 63 events; missing: 3 AGE``."""
        parts = [f"{len(self)} of {self.n_input} records"]
        if SUBJECT in self.frame.columns or self.n_subjects != len(self):
            parts.append(f"{self.n_subjects} subjects")
        if self.left is None:
            parts.append(f"{self.n_events} events")
        lost = ", ".join(f"{count} {name}" for name, count in self.missing.items())
        zero = f"; weight 0: {self.zero_weight} records" if self.zero_weight else ""
        early = f"; {self.before_landmark} records end by the landmark {self.landmark:g}" if self.landmark else ""
        return ", ".join(parts) + (f"; missing: {lost}" if lost else "") + zero + early


def unpack(
    formula: str | Formula,
    data: FrameLike,
    *,
    weights: str | Sequence[float] | FloatArray | None = None,
    extra: Iterable[str] = (),
    order: Mapping[str, Sequence[Any]] | None = None,
    competing: bool = False,
    censored: Any = None,
    merge_times: bool = True,
    allow: Iterable[str] = ("right", "counting"),
    landmark: float | None = None,
) -> SurvData:
    """Arrays, groups and counts of the complete rows of `data`.

    Parameters
    ----------
    formula : ``Surv(...) ~ terms`` as text or already parsed
    weights : column, expression or (rows,) numbers; rows with weight 0 are left out and counted
    extra : further columns or expressions that must not be missing (an id, covariates)
    order : level order of factor columns
    competing : the last argument of Surv is a status: 0 or the label `censored`, else a cause
    merge_times : make times equal that differ only by rounding (as R's timefix)
    allow : the types of Surv that the caller can analyse
    landmark : keep only rows that are still under observation after this time

    Raises
    ------
    FormulaError
        No Surv, a type not allowed, a bare ``CNSR`` as event, an unknown column.
    DataError
        Negative or infinite times, stop not after start, events other than 0/1, negative weights.
    """
    parsed = formula if isinstance(formula, Formula) else parse(formula)
    response = _response(parsed, tuple(allow))
    frame = frames.to_pandas(data)
    frames.tell_unused(order, frame)
    _refuse_bare_cnsr(response)
    frame, weight_column = _with_weights(frame, weights)
    kept, missing = _rows(frame, parsed, response, [*extra, *([weight_column] if weight_column else [])])
    used = frame.iloc[kept].reset_index(drop=True)
    w = None if weight_column is None else _weights(used, weight_column)
    zero = 0 if w is None else int((w == 0).sum())
    if w is not None and zero:
        kept, used, w = kept[w > 0], used.loc[w > 0].reset_index(drop=True), w[w > 0]
    if not len(used):
        lost = ", ".join(f"{count} {name}" for name, count in missing.items())
        raise DataError(f"No row of the {len(frame)} given is complete ({lost or 'the table is empty'}).")
    times = _times(used, response, competing, censored, merge_times)
    early = 0
    if landmark is not None:
        late = times["time"] > snap(np.array([float(landmark)]), times["time"])
        early = int((~late).sum())
        kept, used, times = kept[late], used.loc[late].reset_index(drop=True), _where(times, late)
        w = None if w is None else w[late]
    if not len(used):
        raise DataError(
            f"landmark={landmark:g}: none of the {early} rows is followed beyond it. Choose an earlier one."
        )
    cluster = None if parsed.cluster is None else pd.factorize(used[parsed.cluster])[0].astype(np.int64)
    return SurvData(
        formula=parsed,
        frame=used,
        kept=kept,
        weights=w,
        cluster=cluster,
        strata=group_rows(used, parsed.strata, order),
        missing=missing,
        n_input=len(frame),
        zero_weight=zero,
        kind=frames.kind(data),
        data_print=frames.fingerprint(used, frames.named(used, parsed.text, weight_column, *extra)),
        landmark=landmark,
        before_landmark=early,
        warnings=_key_warnings(used, parsed, response),
        **times,
    )


def _key_warnings(used: pd.DataFrame, parsed: Formula, response: Surv) -> tuple[str, ...]:
    """What the keys of the rows say against the analysis: several parameters, or several rows of a subject."""
    named = frames.named(used, parsed.text)
    said = contract.one_parameter(used, named) if response.type == "counting" or parsed.cluster else ()
    if said or response.type == "counting" or parsed.cluster or parsed.frailty:
        return said
    taken = {name for a in response.args for name in columns_in(a, map(str, used.columns))}
    groups = [c for c in named if c not in taken and used[c].dtype.kind != "f"]
    return contract.one_row_each(used, "say cluster(USUBJID) or Surv(start, stop, event)", groups)


def _where(times: dict[str, Any], rows: BoolArray) -> dict[str, Any]:
    """The same arrays for some of the rows."""
    return {k: v[rows] if isinstance(v, np.ndarray) else v for k, v in times.items()}


def group_rows(
    frame: pd.DataFrame, expressions: Sequence[str], order: Mapping[str, Sequence[Any]] | None = None
) -> Groups:
    """Combinations of the columns (or expressions) that occur in `frame`, with each row's code."""
    factors: dict[str, frames.Levels] = {}
    values: dict[str, Any] = {}
    codes = np.zeros(len(frame), dtype=np.int64)
    for text in expressions:
        name, column = _group_column(frame, text)
        factors[name] = frames.levels(
            pd.DataFrame({name: column, **_companion(frame, name)}), name, (order or {}).get(name)
        )
        codes = codes * max(len(factors[name].values), 1) + factors[name].codes
    seen, first, compact = np.unique(codes, return_index=True, return_inverse=True)
    for name, levels in factors.items():
        at = levels.codes[first]
        picked = [levels.values[i] for i in at]
        values[name] = pd.Categorical(picked, levels.values, ordered=True) if levels.source == "categorical" else picked
    table = pd.DataFrame(values) if values else pd.DataFrame(index=range(len(seen)))
    return Groups(table, compact.astype(np.int64), factors)


def group_terms(parsed: Formula) -> list[str]:
    """The columns on the right-hand side of a curve or test formula; interactions mean the same as sums here."""
    terms = [t.strip() for part in cut(parsed.fixed, "+") for piece in cut(part, "*") for t in cut(piece, ":")]
    terms = [t for t in terms if t not in ("1", "")]
    if any(t in ("0", "-1", ".") for t in terms):
        raise FormulaError(f"{parsed.text!r}: the right-hand side names grouping columns, such as TRT01P, or is 1.")
    return list(dict.fromkeys(terms))


def unstated_order(groups: Groups) -> tuple[str, ...]:
    """Warn (and return the texts) when groups that are compared have an alphabetical order only, or look alike."""
    return frames.warn_factors(groups.factors) if len(groups) > 1 else ()


def compared(surv: SurvData, groups: Groups) -> SurvData:
    """`surv` with what has to be said of the groups that are compared."""
    return replace(surv, warnings=(*surv.warnings, *unstated_order(groups)))


def checked_times(times: float | Sequence[float]) -> FloatArray:
    """Times at which a curve is asked for, as numbers; a missing time or a text has no answer."""
    try:
        found = np.atleast_1d(np.asarray(times, dtype=float))
    except (TypeError, ValueError):
        raise FormulaError(f"times={times!r}: give numbers in the unit of the time column, such as [30, 60].") from None
    if np.isnan(found).any():
        raise FormulaError(f"times={times!r}: {int(np.isnan(found).sum())} missing. Leave them out.")
    return found


def check_convention(convention: str | None) -> str | None:
    """`convention` when it is "R", "SAS" or None."""
    return None if convention is None else choose(convention, CONVENTIONS, "convention")


def _response(parsed: Formula, allow: tuple[str, ...]) -> Surv:
    response = parsed.response
    if not isinstance(response, Surv):
        raise FormulaError(f"{parsed.text!r}: write Surv(time, event) on the left, such as Surv(AVAL, CNSR == 0).")
    if response.type not in allow:
        use = (
            "ks.turnbull or ks.interval_cox" if response.type == "interval2" else "a Surv of type " + " or ".join(allow)
        )
        raise FormulaError(f"{parsed.text!r}: Surv type {response.type!r} cannot be analysed here; use {use}.")
    return response


def _refuse_bare_cnsr(response: Surv) -> None:
    if response.type != "interval2" and re.fullmatch(r"`?CNSR\d*`?", response.args[-1], flags=re.IGNORECASE):
        name = response.args[-1]
        raise FormulaError(
            f"Surv({', '.join(response.args)}): {name} counts censoring, and in ADaM {name} 0 is the event. "
            f"Write Surv({', '.join(response.args[:-1])}, {name} == 0)."
        )


def _with_weights(frame: pd.DataFrame, weights: Any) -> tuple[pd.DataFrame, str | None]:
    """The frame with array weights as a column, and the expression that yields the weights."""
    if weights is None or isinstance(weights, str):
        return frame, weights
    values = np.asarray(weights, dtype=float)
    if values.shape != (len(frame),):
        raise DataError(
            f"weights: {values.shape} numbers for {len(frame)} rows. Give one weight per row, or a column name."
        )
    return frame.assign(**{"(weights)": values}), "`(weights)`"


def _weights(used: pd.DataFrame, expression: str) -> FloatArray:
    w = evaluate(expression, used)
    if (w < 0).any():
        raise DataError(f"weights: {(w < 0).sum()} rows are negative (rows {who(used, w < 0)}). Weights are 0 or more.")
    return w


def _rows(
    frame: pd.DataFrame, parsed: Formula, response: Surv, extra: Sequence[str]
) -> tuple[IntArray, dict[str, int]]:
    """Complete rows and missing counts; in interval data a missing bound means unbounded on that side."""
    interval = response.type == "interval2"
    asked = [] if interval else list(response.args)
    fixed = re.sub(r"\b(?:C|factor)\(\s*([^()]+?)\s*\)", r"\1", parsed.fixed)
    named = columns_in(_as_expression(fixed), map(str, frame.columns)) if fixed != "1" else ()
    asked += [f"`{name}`" for name in named]
    asked += [*(_quoted(frame, s) for s in parsed.strata), *parsed.offset, *extra]
    asked += [f"`{name}`" for name in (parsed.cluster, parsed.frailty.group if parsed.frailty else None) if name]
    _require_columns(frame, [*asked, *response.args])
    kept, missing = complete_rows(frame, asked)
    if interval:
        bounds = [evaluate_bound(a, frame) for a in response.args]
        none = np.isnan(bounds[0]) & np.isnan(bounds[1])
        if none.any():
            missing = {**missing, " and ".join(response.args): int(none.sum())}
        kept = kept[~none[kept]]
    return kept, missing


def _as_expression(fixed: str) -> str:
    """The right-hand side as one arithmetic expression, so that its columns can be listed."""
    return re.sub(r"\b(poly|bs|cr)\(([^,()]+)(?:,[^()]*)?\)", r"abs(\2)", fixed.replace(":", "*"))


def _quoted(frame: pd.DataFrame, text: str) -> str:
    return f"`{text}`" if text in frame.columns else text


def _require_columns(frame: pd.DataFrame, expressions: Iterable[str]) -> None:
    known = tuple(map(str, frame.columns))
    for expression in expressions:
        for name in columns_in(expression, known):
            if name not in frame.columns:
                raise DataError(
                    f"{expression.strip('`')}: column {name!r} is not in the data.{nearest(name, known)} "
                    f"It has: {', '.join(known[:12])}{' ...' if len(known) > 12 else ''}."
                )


def _group_column(frame: pd.DataFrame, text: str) -> tuple[str, Any]:
    """Name and values of one grouping expression."""
    wrapped = re.fullmatch(r"(?:C|factor)\(\s*([^()]+?)\s*\)", text)
    name = (wrapped.group(1) if wrapped else text).strip("`")
    if name in frame.columns:
        return name, frame[name]
    values = evaluate(name, frame)
    return name, values.astype(bool) if set(np.unique(values)) <= {0.0, 1.0} else values


def _companion(frame: pd.DataFrame, name: str) -> dict[str, Any]:
    return {f"{name}N": frame[f"{name}N"]} if f"{name}N" in frame.columns else {}


def _times(used: pd.DataFrame, response: Surv, competing: bool, censored: Any, merge_times: bool) -> dict[str, Any]:
    if response.type == "interval2":
        return _interval_times(used, response, merge_times)
    *spans, event_text = response.args
    numbers = [evaluate(a, used) for a in spans]
    stop = numbers[-1]
    start = numbers[0] if len(numbers) == 2 else None
    for text, values in zip(spans, numbers, strict=True):
        if start is None and (values < 0).any():
            raise DataError(
                f"{text}: {(values < 0).sum()} rows have a negative time (rows {who(used, values < 0)}). "
                "Time runs from 0; correct the start date or leave these rows out."
            )
    if start is not None and (start >= stop).any():
        bad = start >= stop
        raise DataError(
            f"Surv({', '.join(response.args)}): {bad.sum()} rows do not stop after they start (rows {who(used, bad)}). "
            "A row covers (start, stop] with start < stop; merge or drop empty intervals."
        )
    if merge_times:
        start, stop = _merged(start, stop)
    status, causes = _status(used, event_text, censored) if competing else (None, ())
    event = status > 0 if status is not None else _event(used, event_text)
    found = {"time": stop, "event": event, "entry": start, "status": status, "causes": causes}
    return {**found, "left": None, "right": None}


def _merged(start: FloatArray | None, stop: FloatArray) -> tuple[FloatArray | None, FloatArray]:
    if start is None:
        return None, merge_close(stop)[0]
    new_start, new_stop = merge_close(start, stop)
    return (new_start, new_stop) if (new_start < new_stop).all() else (start, stop)


def _event(used: pd.DataFrame, text: str) -> BoolArray:
    values = evaluate(text, used)
    odd = ~np.isin(values, (0.0, 1.0))
    if odd.any():
        seen = first_ids(f"{v:g}" for v in np.unique(values))
        raise DataError(
            f"{text}: {odd.sum()} rows are neither 0 nor 1 (values {seen}; rows {who(used, odd)}). "
            f"Say which value is the event, such as {text} == {1.0 if 1.0 in values else np.max(values):g}."
        )
    return values == 1.0


def _status(used: pd.DataFrame, text: str, censored: Any) -> tuple[IntArray, tuple[Any, ...]]:
    """Codes (0 censored) and cause labels of a competing-risks status."""
    values = used[text.strip("`")] if text.strip("`") in used.columns else pd.Series(evaluate(text, used))
    levels = frames.levels(pd.DataFrame({"status": values}), "status")
    declared = values.cat.categories if isinstance(values.dtype, pd.CategoricalDtype) else ()
    off = _censoring_label(text, levels.values, censored, declared)
    causes = tuple(v for v in levels.values if v != off)
    code = np.array([0 if v == off else causes.index(v) + 1 for v in levels.values], dtype=np.int64)
    plain = tuple(int(c) if isinstance(c, float) and c.is_integer() else c for c in causes)
    return code[levels.codes], plain


def _censoring_label(text: str, values: tuple[Any, ...], censored: Any, declared: Iterable[Any]) -> Any:
    """The status that means censored; a label that no row holds says that nobody is censored."""
    labels = all(isinstance(v, str) for v in values)
    if censored is None:
        if labels:
            raise FormulaError(
                f"{text} holds labels ({first_ids(values, 8)}): name the one that means censored, censored=...; when "
                'nobody is censored, a label that does not occur, such as censored="none".'
            )
        return 0
    if censored in values or censored in declared:
        return censored
    if not labels and censored != 0:
        raise DataError(
            f"censored={censored!r}: no row of {text} has it. Its values: {first_ids(values, 8)}. Where nobody is "
            "censored, leave censored= out."
        )
    if labels:
        _refuse_misspelt(text, censored, values)
        warn(f"{text}: no row has the status censored={censored!r}, so nobody is censored.")
    return censored


def _refuse_misspelt(text: str, censored: Any, values: tuple[str, ...]) -> None:
    """A label that nearly occurs is a misspelling, not a statement that nobody is censored."""
    plain = {re.sub(r"\W", "", str(v)).casefold(): v for v in values}
    asked = re.sub(r"\W", "", str(censored)).casefold()
    begins = [k for k in plain if min(len(k), len(asked)) > 2 and (k.startswith(asked) or asked.startswith(k))]
    near = begins or difflib.get_close_matches(asked, plain, n=1, cutoff=0.75)
    if near:
        raise DataError(
            f"censored={censored!r}: no row of {text} has it. Did you mean {plain[near[0]]!r}? Its values: "
            f'{first_ids(values, 8)}. Where nobody is censored, give a label unlike these, such as censored="none".'
        )


def _interval_times(used: pd.DataFrame, response: Surv, merge_times: bool) -> dict[str, Any]:
    left, right = (evaluate_bound(a, used) for a in response.args)
    left, right = np.where(np.isnan(left), 0.0, left), np.where(np.isnan(right), np.inf, right)
    bad = (left > right) | (left < 0)
    if bad.any():
        raise DataError(
            f"Surv({', '.join(response.args)}): {bad.sum()} rows have left above right or below 0 "
            f"(rows {who(used, bad)}). "
            "The event lies in (left, right]; leave right empty when it was not seen."
        )
    if merge_times:
        left, right = merge_close(left, right)
    empty = np.full(len(used), np.nan)
    return {
        "time": empty,
        "event": np.zeros(len(used), bool),
        "entry": None,
        "status": None,
        "causes": (),
        "left": left,
        "right": right,
    }


def evaluate_bound(expression: str, frame: pd.DataFrame) -> FloatArray:
    """A bound of an interval: missing stays NaN, infinite is allowed."""
    name = expression.strip("`")
    if name in frame.columns and pd.api.types.is_numeric_dtype(frame[name].dtype):
        return frame[name].to_numpy(dtype=float, na_value=np.nan)
    return evaluate(expression, frame)


def who(used: pd.DataFrame, rows: BoolArray) -> str:
    """The subjects (or row positions) of the rows, the first few."""
    at = np.flatnonzero(rows)
    return first_ids(used[SUBJECT].iloc[at] if SUBJECT in used.columns else at)
