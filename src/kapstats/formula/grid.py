"""The reference grid: what an LS mean is a mean of.

Covariates stand at their mean over the rows used (or where `at` says), factors are crossed, and the factors that are
not asked for are averaged: with equal weights, in proportion to their joint frequency in the data, or ("observed")
by giving every row of the data each level in turn (standardisation, g-computation).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from kapstats._types import BoolArray, FloatArray
from kapstats.errors import FormulaError, choose, first_ids, nearest, warn
from kapstats.formula.design import Design, level_text

WEIGHTS = ("equal", "proportional", "observed")
ESTIMABLE_TOLERANCE = 1e-8


@dataclass(frozen=True)
class Grid:
    """LS means as linear functions of the coefficients.

    frame : (r, k) the levels of the asked columns, `by` last, first column varying fastest
    L : (r, q) one linear function per row, over all q columns of the design
    """

    frame: pd.DataFrame
    L: FloatArray


def reference_grid(
    design: Design,
    used: pd.DataFrame,
    specs: Sequence[str],
    *,
    by: Sequence[str] = (),
    weights: str = "equal",
    at: Mapping[str, Any] | None = None,
) -> Grid:
    """The grid of `specs` (and `by`) for a fitted design.

    Parameters
    ----------
    used : the rows of the fit
    specs, by : columns of the model: factors, or covariates with values given in `at`
    weights : "equal", "proportional" or "observed"
    at : values of covariates (a number, or several for a column in `specs`), or levels of factors to keep

    Raises
    ------
    FormulaError
        When a column is not in the model.

    Examples
    --------
    >>> from kapstats.formula.design import build
    >>> data = pd.DataFrame({"arm": ["a", "b", "b"], "x": [1.0, 2.0, 6.0]})
    >>> reference_grid(build("arm + x", data, order={"arm": ["a", "b"]}), data, ["arm"]).L.tolist()
    [[1.0, 0.0, 3.0], [1.0, 1.0, 3.0]]
    """
    choose(weights, WEIGHTS, "weights")
    asked = [*specs, *by]
    values = _values(design, used, asked, dict(at or {}))
    frame = _crossed({c: values[c] for c in asked}, used)
    if weights == "observed":
        return Grid(frame, _standardised(design, used, frame, {c: v for c, v in (at or {}).items() if c not in asked}))
    rest = {c: v for c, v in values.items() if c not in asked}
    share = _shares(design, used, rest, weights)
    inner = _crossed(rest, used) if rest else pd.DataFrame(index=range(1))
    rows = frame.loc[frame.index.repeat(len(inner))].reset_index(drop=True)
    tiled = pd.concat([inner] * len(frame), ignore_index=True)
    X = design.spec.matrix(pd.concat([rows, tiled], axis=1))
    return Grid(frame, np.einsum("rsq,s->rq", X.reshape(len(frame), len(inner), -1), share))


def _values(design: Design, used: pd.DataFrame, asked: list[str], at: dict[str, Any]) -> dict[str, list[Any]]:
    """The values that each column of the model takes in the grid."""
    model = design.spec.columns
    for name in (*asked, *at):
        if name not in model:
            raise FormulaError(f"{name!r} is not in the model.{nearest(name, model)} Its columns: {', '.join(model)}.")
    values: dict[str, list[Any]] = {}
    for column in model:
        if column in design.factors:
            values[column] = _kept_levels(column, design.factors[column].values, at.get(column))
        else:
            given = at.get(column, float(used[column].astype(float).mean()))
            values[column] = [float(v) for v in np.atleast_1d(given)]
    return values


def _kept_levels(column: str, levels: tuple[Any, ...], wanted: Any) -> list[Any]:
    if wanted is None:
        return list(levels)
    wanted = [wanted] if isinstance(wanted, str) or not isinstance(wanted, Sequence) else list(wanted)
    for level in wanted:
        if level not in levels:
            hint = nearest(str(level), map(str, levels))
            raise FormulaError(f"at: {column} has no level {level!r}.{hint} Levels: {', '.join(map(str, levels))}.")
    return wanted


def _crossed(values: Mapping[str, list[Any]], used: pd.DataFrame) -> pd.DataFrame:
    """All combinations, the first column varying fastest."""
    rows = [combo[::-1] for combo in itertools.product(*(values[c] for c in reversed(list(values))))]
    frame = pd.DataFrame(rows, columns=list(values))
    ordered = {c for c in values if c in used and isinstance(used[c].dtype, pd.CategoricalDtype)}
    return frame.assign(**{c: pd.Categorical(frame[c], dtype=used[c].dtype) for c in ordered})


def _shares(design: Design, used: pd.DataFrame, rest: Mapping[str, list[Any]], weights: str) -> FloatArray:
    """Weight of each combination of the averaged columns, in the order of `_crossed`; sums to one."""
    sizes = [len(v) for v in reversed(list(rest.values()))]
    count = int(np.prod(sizes)) if sizes else 1
    factors = [c for c in rest if c in design.factors]
    if weights == "equal" or not factors:
        return np.full(count, 1 / count)
    inner = _crossed(rest, used)
    observed = pd.DataFrame({c: design.factors[c].codes for c in factors}).value_counts()
    position = {c: {level: i for i, level in enumerate(design.factors[c].values)} for c in factors}
    keys = zip(*(inner[c].map(position[c]) for c in factors), strict=True)
    found = np.array([float(observed.get(key, 0)) for key in keys])
    if found.sum() == 0:
        raise FormulaError("weights='proportional': no row of the data has the levels asked for.")
    return found / found.sum()


def _standardised(design: Design, used: pd.DataFrame, frame: pd.DataFrame, fixed: Mapping[str, Any]) -> FloatArray:
    """Mean row of X over the data with the asked columns set to each row of `frame` in turn."""
    base = used[list(design.spec.columns)].assign(**fixed)
    means = []
    for _, levels in frame.astype("object").iterrows():
        means.append(design.spec.matrix(base.assign(**levels.to_dict())).mean(axis=0))
    return np.array(means)


def warn_without_data(design: Design, rows: pd.DataFrame, what: str) -> list[str]:
    """Warn about `rows` for which the design has no estimate, naming their levels of the factors that are aliased."""
    if not len(rows):
        return []
    terms = [t for t in design.terms if design.aliased[t.start : t.stop].any()]
    columns = [design.spec.variables[v].column for t in terms for v in t.factors]
    names = [c for c in dict.fromkeys(columns) if c] or list(design.factors)
    seen = rows[names].drop_duplicates().itertuples(index=False)
    cells = [f"({', '.join(f'{c} = {level_text(v)}' for c, v in zip(names, row, strict=True))})" for row in seen]
    where = f": the rows of the fit cannot tell {first_ids(cells)}" if names else ""
    return [warn(f"{len(rows)} {what} have no estimate{where}. They are missing (NE).")]


def estimable(L: FloatArray, design: Design, tolerance: float = ESTIMABLE_TOLERANCE) -> BoolArray:
    """True for each row of L (r, q) that is a linear combination of rows of X.

    L is estimable when it is orthogonal to the null space of X; with X = X1 [I A] (X1 the columns kept), that is
    when L's aliased part equals its kept part times A.

    Examples
    --------
    >>> from kapstats.formula.design import build
    >>> d = build("x + z", pd.DataFrame({"x": [1.0, 2.0, 3.0], "z": [2.0, 4.0, 6.0]}))
    >>> estimable(np.array([[0.0, 1.0, 2.0], [0.0, 1.0, 0.0]]), d).tolist()
    [True, False]
    """
    kept, lost = ~design.aliased, design.aliased
    if not lost.any():
        return np.ones(len(L), dtype=bool)
    A = np.linalg.lstsq(design.X[:, kept], design.X[:, lost], rcond=None)[0]
    gap = np.abs(L[:, kept] @ A - L[:, lost]).max(axis=1)
    return gap <= tolerance * np.maximum(1.0, np.abs(L).max(axis=1))
