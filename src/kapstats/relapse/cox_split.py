"""Coefficients that change with time: rows are split at event times (x g(t)) or at given breaks (steps)."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from kapstats._types import FloatArray, IntArray
from kapstats.errors import FormulaError, nearest
from kapstats.formula.design import Design, Term, build
from kapstats.kernels.risk_sets import risk_sets, snap
from kapstats.relapse.surv_data import Groups, SurvData

MOST_PIECES = 20_000_000
FUNCTIONS: dict[str, tuple[Callable[[FloatArray], FloatArray], str]] = {
    "log": (np.log, "log(t)"),
    "identity": (lambda t: t, "t"),
}


@dataclass(frozen=True, slots=True)
class Pieces:
    """Row of origin, (entry, stop] and event of every piece."""

    row: IntArray
    entry: FloatArray
    stop: FloatArray
    event: Any


@dataclass(frozen=True, slots=True)
class _Block:
    """Columns of one model term."""

    name: str
    factors: tuple[str, ...]
    names: tuple[str, ...]
    X: FloatArray
    aliased: Any


def time_varying_rows(
    surv: SurvData, asked: Mapping[str, Any], order: Mapping[str, Sequence[Any]] | None
) -> tuple[SurvData, Design]:
    """Split rows and the design whose columns carry the time-varying coefficients.

    `asked` maps a term or column name to "log", "identity", a function of time, or break times.
    """
    design = build(surv.formula.fixed, surv.frame, order=order)
    blocks = _blocks(design)
    known = [b.name for b in blocks] + [n for b in blocks for n in b.names]
    for name in asked:
        if name not in known:
            raise FormulaError(f"time_varying: {name!r} is no term of the model.{nearest(name, known)}")
    seen = surv.time if surv.entry is None else np.concatenate([surv.time, surv.entry])
    steps = {k: snap(_breaks(k, v), seen) for k, v in asked.items() if not isinstance(v, str) and not callable(v)}
    smooth = {k: v for k, v in asked.items() if k not in steps}
    cuts = np.unique(np.concatenate([*steps.values(), np.zeros(0)]))
    pieces = _at_events(surv) if smooth else _at_breaks(surv, cuts)
    made: list[_Block] = []
    for block in blocks:
        made += _varied(_take(block, pieces.row), pieces, steps, smooth)
    return _split(surv, pieces), _assemble(design, made)


def _breaks(name: str, values: Any) -> FloatArray:
    breaks = np.sort(np.atleast_1d(np.asarray(values, dtype=float)))
    if not len(breaks) or (breaks <= 0).any():
        raise FormulaError(f"time_varying[{name!r}]: give 'log', 'identity', a function, or positive break times.")
    return breaks


def _blocks(design: Design) -> list[_Block]:
    found = []
    for term in design.terms:
        at = slice(term.start, term.stop)
        found.append(_Block(term.name, term.factors, design.names[at], design.X[:, at], design.aliased[at]))
    return found


def _take(block: _Block, rows: IntArray) -> _Block:
    return replace(block, X=block.X[rows])


def _varied(block: _Block, pieces: Pieces, steps: Mapping[str, FloatArray], smooth: Mapping[str, Any]) -> list[_Block]:
    """The block itself, or what stands for it when its coefficients vary."""
    hit = [n for n in dict.fromkeys((block.name, *block.names)) if n in steps or n in smooth]
    if not hit:
        return [block]
    if len(hit) > 1:
        raise FormulaError(f"time_varying: {hit[0]!r} and {hit[1]!r} are the same term; name one of them.")
    key = hit[0]
    chosen = np.array([key == block.name or n == key for n in block.names])
    if key in steps:
        return _stepped(block, chosen, pieces, steps[key])
    function, label = _function(key, smooth[key])
    g = function(pieces.stop)
    if not np.all(np.isfinite(g)):
        raise FormulaError(f"time_varying[{key!r}]: {label} is not finite at every event time; shift the time origin.")
    names = tuple(f"{n}:{label}" for n, c in zip(block.names, chosen, strict=True) if c)
    extra = _Block(
        f"{block.name}:{label}", block.factors, names, block.X[:, chosen] * g[:, None], block.aliased[chosen]
    )
    return [block, extra]


def _function(key: str, value: Any) -> tuple[Callable[[FloatArray], FloatArray], str]:
    if callable(value):
        return (lambda t: np.asarray(value(t), dtype=float)), "g(t)"
    if value not in FUNCTIONS:
        raise FormulaError(f"time_varying[{key!r}]={value!r}: choose 'log', 'identity', a function or break times.")
    return FUNCTIONS[value]


def _stepped(block: _Block, chosen: Any, pieces: Pieces, breaks: FloatArray) -> list[_Block]:
    """One set of columns per interval between breaks, zero outside it."""
    edges = np.concatenate([[0.0], breaks, [np.inf]])
    inside = np.searchsorted(breaks, pieces.stop, side="left")
    names, columns = [], []
    for k, (low, high) in enumerate(itertools.pairwise(edges)):
        label = f"({low:g}, {high:g}]" if np.isfinite(high) else f"({low:g}, Inf)"
        names += [f"{n}:{label}" for n, c in zip(block.names, chosen, strict=True) if c]
        columns.append(block.X[:, chosen] * (inside == k)[:, None])
    kept = [n for n, c in zip(block.names, chosen, strict=True) if not c]
    X = np.hstack([block.X[:, ~chosen], *columns])
    aliased = np.concatenate([block.aliased[~chosen], *([block.aliased[chosen]] * len(columns))])
    return [_Block(block.name, block.factors, (*kept, *names), X, aliased)]


def _at_breaks(surv: SurvData, cuts: FloatArray) -> Pieces:
    """Every row cut at the breaks that lie inside it."""
    entry = np.zeros(len(surv)) if surv.entry is None else surv.entry
    first = np.searchsorted(cuts, entry, side="right")
    behind = np.searchsorted(cuts, surv.time, side="left")
    count = np.maximum(behind - first, 0) + 1
    row = np.repeat(np.arange(len(surv)), count)
    nth = np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)
    is_first, is_last = nth == 0, nth == count[row] - 1
    padded = np.append(cuts, np.inf)
    start = np.where(is_first, entry[row] if surv.entry is not None else -np.inf, padded[first[row] + nth - 1])
    stop = np.where(is_last, surv.time[row], padded[np.minimum(first[row] + nth, len(cuts))])
    return Pieces(row, start, stop, surv.event[row] & is_last)


def _at_events(surv: SurvData) -> Pieces:
    """One piece per row and event time at which it is at risk."""
    sets = risk_sets(surv.time, surv.event, surv.entry, surv.strata.codes, len(surv.strata))
    count = sets.last - sets.first
    if count.sum() > MOST_PIECES:
        raise FormulaError(
            f"time_varying: {int(count.sum())} pieces are too many; use break times instead of a function."
        )
    at = np.repeat(np.arange(len(count)), count)
    nth = np.arange(len(at)) - np.repeat(np.cumsum(count) - count, count)
    k = sets.first[at] + nth
    before = np.append(-np.inf, sets.time)[k]
    before[np.isin(k, sets.start[:-1])] = -np.inf
    event = sets.event[at] & (k == sets.last[at] - 1)
    return Pieces(sets.order[at], before, sets.time[k], event)


def _split(surv: SurvData, pieces: Pieces) -> SurvData:
    rows = pieces.row
    cluster = np.arange(len(surv)) if surv.cluster is None else surv.cluster
    strata = Groups(surv.strata.frame, surv.strata.codes[rows], surv.strata.factors)
    return replace(
        surv,
        frame=surv.frame.iloc[rows].reset_index(drop=True),
        kept=surv.kept[rows],
        time=pieces.stop,
        entry=pieces.entry,
        event=pieces.event,
        weights=None if surv.weights is None else surv.weights[rows],
        cluster=cluster[rows],
        strata=strata,
    )


def _assemble(design: Design, blocks: list[_Block]) -> Design:
    terms, at = [], 0
    for block in blocks:
        terms.append(Term(block.name, at, at + len(block.names), block.factors))
        at += len(block.names)
    return replace(
        design,
        X=np.hstack([b.X for b in blocks]),
        names=tuple(n for b in blocks for n in b.names),
        terms=tuple(terms),
        aliased=np.concatenate([b.aliased for b in blocks]).astype(bool),
    )
