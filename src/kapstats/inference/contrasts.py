"""Linear functions of coefficients: LS means, their contrasts, joint tests.

Everything here works for any fit that offers two questions (`Model`): `linear(L, df, vcov)`, the estimates of L b with
covariance and degrees of freedom, and `joint(L, df, vcov)`, the F test of L b = 0. L has one column per column of the
design, aliased ones included; rows that the design cannot determine are answered with NaN. A fit that has these
two methods gets LS means and contrasts by

    lsmeans(model, design, used, "TRT01P", by="AVISIT", describe=meta)      -> LSMeans, an Estimates with .contrast()

and its F tests from `kapstats.response.anova`. Nothing here knows which model it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import pandas as pd
from scipy import special

from kapstats import scales
from kapstats._types import BoolArray, FloatArray
from kapstats.errors import FormulaError, choose, first_ids, nearest, warn
from kapstats.estimates import Estimates, Picture, matching
from kapstats.formula.design import Design, level_text
from kapstats.formula.grid import reference_grid
from kapstats.inference import multiplicity
from kapstats.inference.contrast_weights import Weights, weights_of
from kapstats.inference.intervals import check_level, wald, with_inference
from kapstats.inference.multiplicity import Graph


@dataclass(frozen=True)
class Linear:
    """Estimates of L b: estimate (k,), vcov (k, k), df (k,). Rows that are not estimable are NaN."""

    estimate: FloatArray
    vcov: FloatArray
    df: FloatArray

    @property
    def std_error(self) -> FloatArray:
        return np.sqrt(np.diag(self.vcov))


@dataclass(frozen=True)
class Joint:
    """F test of L b = 0: num_df = rank of L, df = denominator."""

    statistic: float
    num_df: int
    df: float
    p_value: float


class Model(Protocol):
    """What LS means and contrasts need to ask of a fit. None = the fit's default method."""

    def linear(self, L: FloatArray, *, df: str | None = None, vcov: str | None = None) -> Linear: ...

    def joint(self, L: FloatArray, *, df: str | None = None, vcov: str | None = None) -> Joint: ...


@dataclass(frozen=True)
class Source:
    """Where LS means came from: the model, the linear functions (rows, q), and the methods asked for.

    sampling : (rows, rows) covariance of the means over samples of covariates, None when the covariates are fixed
    shift : added to every mean (the offset of the model)
    bounds : "logit" or "log" for means inside (0, 1) or above 0: limits of that scale turned back, no test against 0
    """

    model: Model
    L: FloatArray
    factors: tuple[str, ...]
    by: tuple[str, ...]
    df: str | None = None
    vcov: str | None = None
    sampling: FloatArray | None = None
    shift: FloatArray | float = 0.0
    bounds: str = ""

    def ask(self, weights: FloatArray) -> Linear:
        """Estimates of weights (k, rows) times the means.

        With sampled covariates V = L Phi L' + S, and df (V / L Phi L')^2 times the model's, S taken as known.
        """
        found = self.model.linear(weights @ self.L, df=self.df, vcov=self.vcov)
        found = replace(found, estimate=found.estimate + self._shifted(weights))
        if self.sampling is None:
            return found
        vcov = found.vcov + weights @ self.sampling @ weights.T
        with np.errstate(divide="ignore", invalid="ignore"):
            share = np.diag(vcov) / np.diag(found.vcov)
        return Linear(found.estimate, vcov, found.df * share**2)

    def of(self, weights: FloatArray, **changed: Any) -> Source:
        """The source of weighted means."""
        sampling = None if self.sampling is None else weights @ self.sampling @ weights.T
        averages = bool((weights >= 0).all() and np.allclose(weights.sum(axis=1), 1))
        return replace(
            self, L=weights @ self.L, sampling=sampling, shift=self._shifted(weights),
            bounds=self.bounds if averages else "", **changed,
        )  # fmt: skip

    def _shifted(self, weights: FloatArray) -> FloatArray:
        return np.asarray(weights @ np.broadcast_to(self.shift, len(self.L)))


@dataclass(frozen=True, repr=False)
class LSMeans(Estimates):
    """LS means, with their contrasts one call away."""

    source: Source | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        """Means of two factors are drawn as profiles: a line per level of the first over the levels of the second."""
        keys = [] if self.source is None else [*self.source.factors, *self.source.by]
        if len(keys) == 2 and self.picture == Picture():
            words = {"identity": "", "log": ", log scale", "logit": ", log odds"}.get(str(self.meta.get("scale")), "")
            options = {"group": keys[0], "x": keys[1], "ylabel": f"Least-squares mean{words}"}
            object.__setattr__(self, "picture", Picture("profile", options))

    def filter(self, **values: Any) -> LSMeans:
        """The rows where each named column equals the value (or is one of a list of values)."""
        keep = _mask(self.frame, values)
        assert self.source is not None
        vcov = None if self.vcov is None else self.vcov[np.ix_(keep, keep)]
        source = self.source.of(np.eye(len(keep))[keep])
        return replace(self, frame=self.frame.loc[keep].reset_index(drop=True), vcov=vcov, source=source)

    def contrast(
        self,
        method: str | Weights = "trt.vs.ctrl",
        *,
        ref: Any = None,
        adjust: str = "none",
        level: float = 0.95,
        side: str = "two",
        graph: Graph | None = None,
        null: float = 0.0,
        standardize: float | None = None,
    ) -> Estimates:
        """Contrasts of these LS means within each level of the `by` columns.

        Parameters
        ----------
        method : "trt.vs.ctrl", "pairwise", "poly" (orthogonal polynomials), or {name: one weight per level, or
            {level: weight} with 0 for the others}
        ref : the control of "trt.vs.ctrl"; default the first level
        adjust : none, bonferroni, sidak, holm, hochberg, dunnett, mvt, tukey, fixed-sequence, graphical; the family is
            the set of contrasts of one `by` level
        level, side : of the intervals; `side` "two", "greater" or "less" (alternative: above or below `null`)
        graph : weights and transitions for adjust="graphical"
        null : value under the null hypothesis (a non-inferiority margin)
        standardize : a standard deviation that estimates and limits are divided by (standardised mean differences,
            the deviation taken as known)

        Returns
        -------
        Estimates
            `contrast` ("A - B"), the by-columns, and the seven inference columns.

        Raises
        ------
        FormulaError
            For an unknown method, control or adjustment.

        Agrees with
        -----------
        R emmeans 1.8.4-1 `contrast` with adjust none, bonferroni, holm, tukey and trt.vs.ctrl; mvtnorm for dunnett.
        """
        return contrast(self, method, ref, adjust, level, side, graph, null, standardize)

    def combine(self, over: str, weights: str | Mapping[Any, float] = "mean") -> LSMeans:
        """LS means averaged over the levels of column `over`: "mean", "auc" (trapezoid), or {level: weight}.

        The area under the curve takes the levels of `over` as numbers and is divided by the span, so that it stands
        on the scale of the response.
        """
        return combine(self, over, weights)


def lsmeans(
    model: Model,
    design: Design,
    used: pd.DataFrame,
    specs: str | Sequence[str],
    *,
    by: str | Sequence[str] | None = None,
    weights: str = "equal",
    at: Mapping[str, Any] | None = None,
    df: str | None = None,
    vcov: str | None = None,
    level: float = 0.95,
    side: str = "two",
    sampling: FloatArray | None = None,
    population: pd.DataFrame | None = None,
    offsets: FloatArray | None = None,
    offset: float | None = None,
    describe: Mapping[str, Any],
) -> LSMeans:
    """LS means of `model` over the reference grid of `design`.

    Parameters
    ----------
    model : the fit (see `Model`); `design` and `used` its design and the rows behind it
    specs, by : factor columns (or covariates given in `at`); `by` only groups the contrasts
    weights : "equal", "proportional" or "observed"; `at` : values of covariates
    df, vcov : methods, None for the model's default
    sampling : (rows, rows) covariance of the means over samples of covariates (see `Source`)
    population : rows over which weights="observed" averages, default `used`
    offsets : (n,) the offset of each row used, None for a model without; `offset` the value at which the means stand,
        default the mean of `offsets` (as R emmeans)
    describe : meta of the result (method, sentence, warnings ...)
    """
    asked, groups = names_of(specs), names_of(by)
    over = used if population is None else population
    grid = reference_grid(design, over, asked, by=groups, weights=weights, at=at)
    shift, told_of_offset = _offset(offsets, offset)
    source = Source(model, grid.L, tuple(asked), tuple(groups), df, vcov, sampling, shift)
    title = f"LS means of {', '.join(asked)}" + (f" by {', '.join(groups)}" if groups else "")
    told = {"title": title, "weights": weights, "estimand": describe.get("estimand") or title}
    told["conventions"] = (*describe.get("conventions", ()), *told_of_offset)
    measure = str(describe.get("measure") or "")
    if measure and weights == "observed":
        note = f"Means of the {measure} over the rows: not marginal means; for g-computation see marginal_means."
        told["estimand"] = f"{told['estimand']}: mean {measure} over the rows (conditional)"
        told["conventions"] = (*told["conventions"], note)
    return answer(source, grid.frame, level, side, {**describe, **told})


def names_of(columns: str | Sequence[str] | None) -> list[str]:
    """One name, several or none as a list."""
    return [] if columns is None else [columns] if isinstance(columns, str) else list(columns)


def _offset(offsets: FloatArray | None, offset: float | None) -> tuple[float, tuple[str, ...]]:
    """The offset of the means, and what the reader has to know of it."""
    if offsets is None:
        if offset is not None:
            raise FormulaError("offset=: the model has no offset() term.")
        return 0.0, ()
    value = float(offsets.mean()) if offset is None else float(offset)
    kind = "the mean offset of the rows used" if offset is None else "an offset"
    return value, (f"Means at {kind}, {value:.6g}.",)


def answer(source: Source, frame: pd.DataFrame, level: float, side: str, describe: Mapping[str, Any]) -> LSMeans:
    """The table of the means of a source."""
    found = source.ask(np.eye(len(source.L)))
    table = with_inference(frame, found.estimate, found.std_error, found.df, level=level, side=side)
    if source.bounds:
        table = table.assign(**_bounded(found, source.bounds, level, side))
    said = (*describe.get("warnings", ()), *_said(found, "LS means", frame))
    return LSMeans(table, {**describe, "level": level, "side": side, "warnings": said}, found.vcov, source=source)


def _bounded(found: Linear, bounds: str, level: float, side: str) -> dict[str, Any]:
    """Limits of the logit or log scale turned back; a mean of this kind is not tested against zero."""
    m = found.estimate
    turned, slope = (np.log(m / (1 - m)), m * (1 - m)) if bounds == "logit" else (np.log(m), m)
    limits = wald(turned, found.std_error / slope, found.df, level=level, side=side)
    back = special.expit if bounds == "logit" else np.exp
    return {
        "statistic": np.nan, "p_value": np.nan,
        "conf_low": back(limits["conf_low"]), "conf_high": back(limits["conf_high"]),
    }  # fmt: skip


def _said(found: Linear, what: str, frame: pd.DataFrame) -> list[str]:
    """What the reader has to know of missing numbers; means that are not estimable are also warned about."""
    texts = []
    lost = np.flatnonzero(np.isnan(found.estimate))
    if len(lost):
        names = first_ids(" ".join(level_text(v) for v in frame.iloc[i]) for i in lost)
        texts.append(
            f"{len(lost)} of {len(found.estimate)} {what} are not estimable: the data do not determine them ({names})."
        )
        warn(texts[0])
    blank = int((np.isnan(found.df) & np.isfinite(found.estimate)).sum())
    if blank:
        texts.append(
            f"{blank} of {len(found.estimate)} {what} have no valid degrees of freedom; their inference is NaN."
        )
    return texts


def _mask(frame: pd.DataFrame, values: Mapping[str, Any]) -> BoolArray:
    for column in values:
        if column not in frame.columns:
            raise FormulaError(f"result: column {column!r} is not there.{nearest(column, map(str, frame.columns))}")
    return matching(frame, values)


# ------------------------------------------------------------------------------------------- contrasts


def contrast(
    means: LSMeans,
    method: str | Weights,
    ref: Any,
    adjust: str,
    level: float,
    side: str,
    graph: Graph | None,
    null: float,
    standardize: float | None,
) -> Estimates:
    """See `LSMeans.contrast`."""
    choose(adjust, multiplicity.ADJUSTMENTS, "adjust")
    check_level(level)
    source = means.source
    assert source is not None
    labels, rows, families, texts, first = _labels(means.frame, source.factors), [], [], [], []
    for position, where in enumerate(_groups(means.frame, source.by)):
        names, c = weights_of(method, [labels[i] for i in where], ref)
        rows.append(_spread(c, where, len(means.frame)))
        families += [position] * len(names)
        first += [int(where[0])] * len(names)
        texts += names
    frame = means.frame[list(source.by)].iloc[first].reset_index(drop=True)
    frame.insert(0, "contrast", texts)
    found = source.ask(np.vstack(rows))
    family = np.array(families)
    means_compared = len(means.frame) // (family.max() + 1) if method == "pairwise" else None
    columns = _adjusted(found, family, adjust, level, side, graph, null, means_compared)
    describe = {**means.meta, "level": level, "side": side, "adjustment": adjust, "null": null}
    describe["warnings"] = tuple(dict.fromkeys([*means.meta.get("warnings", ()), *_said(found, "contrasts", frame)]))
    describe["conventions"] = (*means.meta.get("conventions", ()), _adjustment_note(adjust, np.bincount(family)))
    describe["title"] = f"Contrasts of {means.meta.get('title', 'LS means')}"
    describe["ratio_names"] = scales.ratio_names(labels)
    describe["measure"] = _compared(str(means.meta.get("measure") or ""), np.vstack(rows), standardize)
    return _scaled(Estimates(frame.assign(**columns), describe, found.vcov), standardize)


def _compared(measure: str, weights: FloatArray, unit: float | None) -> str:
    """What weighted means estimate: differences of log odds are odds ratios."""
    if unit is not None:
        return ""
    return scales.RATIO_OF.get(measure, measure) if np.allclose(weights.sum(axis=1), 0) else measure


def _spread(weights: FloatArray, where: np.ndarray, rows: int) -> FloatArray:
    """Weights (k, len(where)) at their places among all rows."""
    weights = np.atleast_2d(weights)
    out = np.zeros((len(weights), rows))
    out[:, where] = weights
    return out


def _groups(frame: pd.DataFrame, by: Sequence[str]) -> list[np.ndarray]:
    """Row positions of each combination of the by-columns, in order of appearance."""
    if not by:
        return [np.arange(len(frame))]
    code = frame.groupby(list(by), sort=False, observed=True).ngroup().to_numpy()
    return [np.flatnonzero(code == g) for g in range(code.max() + 1)]


def _labels(block: pd.DataFrame, factors: Sequence[str]) -> list[str]:
    return [" ".join(level_text(v) for v in row) for row in block[list(factors)].itertuples(index=False)]


def _adjusted(
    found: Linear,
    family: np.ndarray,
    adjust: str,
    level: float,
    side: str,
    graph: Graph | None,
    null: float,
    means: int | None,
) -> dict[str, FloatArray]:
    """The seven inference columns, p values and limits adjusted within each family."""
    se = found.std_error
    plain = wald(found.estimate, se, found.df, level=level, side=side, null=null)
    p, reach = plain["p_value"].copy(), np.empty(len(se))
    for f in range(int(family.max()) + 1):
        at = np.flatnonzero(family == f)
        r = correlation(found.vcov[np.ix_(at, at)])
        own: dict[str, Any] = {"correlation": r, "df": found.df[at], "side": side, "means": means}
        p[at] = multiplicity.adjust_p(adjust, p[at], statistic=plain["statistic"][at], graph=graph, **own)
        reach[at] = multiplicity.reach(adjust, level=level, **own)
    low = np.full(len(se), -np.inf) if side == "less" else found.estimate - reach * se
    high = np.full(len(se), np.inf) if side == "greater" else found.estimate + reach * se
    head = {"estimate": found.estimate, "std_error": se, "df": found.df, "statistic": plain["statistic"]}
    return {**head, "p_value": p, "conf_low": low, "conf_high": high}


def correlation(vcov: FloatArray) -> FloatArray:
    """Correlation matrix of a covariance matrix."""
    se = np.sqrt(np.diag(vcov))
    with np.errstate(divide="ignore", invalid="ignore"):
        r = vcov / np.outer(se, se)
    np.fill_diagonal(r, 1.0)
    return r


def _adjustment_note(adjust: str, sizes: np.ndarray) -> str:
    count = "/".join(str(s) for s in sorted(set(sizes.tolist())))
    if adjust == "none":
        return "No adjustment for multiple comparisons."
    limits = {
        "holm": "; limits by Bonferroni",
        "hochberg": "; limits by Bonferroni",
        "fixed-sequence": "; limits unadjusted",
        "graphical": "; limits unadjusted",
    }
    return f"P values adjusted by {adjust} for {count} comparisons{limits.get(adjust, '; simultaneous limits')}."


def _scaled(found: Estimates, unit: float | None) -> Estimates:
    if unit is None:
        return found
    if not unit > 0:
        raise FormulaError(f"standardize={unit!r}: give a standard deviation above zero.")
    changed = {c: found.frame[c] / unit for c in ("estimate", "std_error", "conf_low", "conf_high")}
    note = f"Estimates in units of a standard deviation of {unit:.6g}, taken as known."
    described = {**found.meta, "conventions": (*found.meta.get("conventions", ()), note), "standardize": unit}
    vcov = None if found.vcov is None else found.vcov / unit**2
    return replace(found, frame=found.frame.assign(**changed), meta=described, vcov=vcov)


# ------------------------------------------------------------------------------------------- averages


def combine(means: LSMeans, over: str, weights: str | Mapping[Any, float]) -> LSMeans:
    """See `LSMeans.combine`."""
    source = means.source
    assert source is not None
    asked = [*source.factors, *source.by]
    if over not in asked:
        raise FormulaError(f"over={over!r} is not a column of these LS means.{nearest(over, asked)}")
    keep = [c for c in asked if c != over]
    parts, rows = [], []
    for where in _groups(means.frame, keep):
        block = means.frame.iloc[where]
        rows.append(_spread(_over_weights(list(block[over]), weights, over), where, len(means.frame)))
        parts.append(block[keep].iloc[:1])
    frame = pd.concat(parts, ignore_index=True) if keep else pd.DataFrame(index=range(len(rows)))
    new = source.of(np.vstack(rows), factors=_without(source.factors, over), by=_without(source.by, over))
    label = weights if isinstance(weights, str) else "weighted sum"
    describe = {**means.meta, "title": f"{means.meta.get('title', 'LS means')}: {label} over {over}"}
    return answer(new, frame, means.meta.get("level", 0.95), means.meta.get("side", "two"), describe)


def _without(columns: tuple[str, ...], over: str) -> tuple[str, ...]:
    return tuple(c for c in columns if c != over)


def _over_weights(levels: list[Any], weights: str | Mapping[Any, float], over: str) -> FloatArray:
    if isinstance(weights, Mapping):
        unknown = [w for w in weights if w not in levels]
        if unknown:
            raise FormulaError(f"weights: {over} has no level {unknown[0]!r}. Levels: {', '.join(map(str, levels))}.")
        return np.array([float(weights.get(level, 0.0)) for level in levels])
    if choose(weights, ("mean", "auc"), "weights") == "mean":
        return np.full(len(levels), 1 / len(levels))
    try:
        t = np.array([float(level) for level in levels])
    except (TypeError, ValueError) as error:
        raise FormulaError(f"'auc' needs numbers as levels of {over}; give {{level: weight}} instead.") from error
    if len(t) < 2:
        raise FormulaError(f"'auc' needs two levels of {over} or more.")
    step = np.diff(t)
    return np.asarray((np.r_[step, 0.0] + np.r_[0.0, step]) / 2 / (t[-1] - t[0]))
