"""Recurrent relapse: Andersen-Gill, PWP, WLW, LWYY, count models, and the mean cumulative function."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import ndtri

from kapstats import estimates, frames
from kapstats._types import FloatArray, FrameLike, IntArray
from kapstats.errors import ConvergenceError, DataError, FormulaError, choose, first_ids, warn
from kapstats.estimates import Curve, Estimates, Picture, sealed, stored
from kapstats.formula.split import Surv, parse
from kapstats.inference.intervals import check_level
from kapstats.kernels.count_regression import CountFit, supremum
from kapstats.kernels.mean_cumulative import MeanCumulative, mean_cumulative
from kapstats.relapse.cox import TIES, cox
from kapstats.relapse.follow_up import FollowUp, each
from kapstats.relapse.regression import (
    coefficient_table,
    covariates,
    limit_notes,
    natural,
    refuse_terms,
    shown_as,
    spread,
)
from kapstats.relapse.surv_data import (
    Groups,
    SurvData,
    check_convention,
    compared,
    group_rows,
    group_terms,
    unpack,
)

MODELS = ("andersen-gill", "lwyy", "pwp-total", "pwp-gap", "wlw", "poisson", "negative-binomial")
EPISODE = "EPISODE"
TITLES = {
    "andersen-gill": "Andersen-Gill intensity model",
    "lwyy": "Lin-Wei-Yang-Ying rate model",
    "pwp-total": "Prentice-Williams-Peterson model, total time",
    "pwp-gap": "Prentice-Williams-Peterson model, gap time",
    "wlw": "Wei-Lin-Weissfeld marginal model",
}


def recurrent(
    formula: str,
    data: FrameLike,
    *,
    id: str = "USUBJID",
    model: str = "andersen-gill",
    episodes: int | None = None,
    ties: str | None = None,
    level: float = 0.95,
    order: Mapping[str, Sequence[Any]] | None = None,
    convention: str | None = None,
) -> Any:
    """Regression for recurrent events, robust variance by subject.

    andersen-gill: intensity h0(t) exp(x'b) of every event; lwyy: the same score as a rate model (Breslow ties);
    pwp-total and pwp-gap: a baseline hazard per episode, in total time or in time since the episode began; wlw: the
    times to the first, second, ... event, each with its own baseline and everyone at risk from the start;
    poisson and negative-binomial: counts with log follow-up as offset.

    Parameters
    ----------
    formula : ``Surv(start, stop, event) ~ covariates``; the column ``EPISODE`` (1, 2, ...) may be used in it
    data : one row per (start, stop] at risk; rows of a subject do not overlap
    id : the column that names the subject
    model : andersen-gill | lwyy | pwp-total | pwp-gap | wlw | poisson | negative-binomial
    episodes : PWP: later episodes are pooled into this one; WLW: the number of event times modelled (default 3)
    ties : of the partial likelihood; default efron, breslow for lwyy and under convention "SAS"
    convention : "R" or "SAS" (ties only; the variance is the robust one in both)

    Returns
    -------
    CoxFit (CountModel for poisson and negative-binomial) : ``coefficients hazard_ratios() tests() vcov``

    Raises
    ------
    DataError
        Overlapping rows of a subject.

    Agrees with
    -----------
    R survival 3.5-3 (coxph with cluster), MASS 7.3-58 (glm.nb): below 1e-7.

    References
    ----------
    Andersen and Gill (1982) Ann Stat 10: 1100-1120. Prentice, Williams and Peterson (1981) Biometrika 68: 373-379. Wei,
    Lin and Weissfeld (1989) J Am Stat Assoc 84: 1065-1073. Lin, Wei, Yang and Ying (2000) J R Stat Soc B 62: 711-730.

    Examples
    --------
    >>> import pandas as pd
    >>> data = pd.DataFrame({"id": [1, 1, 2, 3, 3, 4], "a": [0, 3, 0, 0, 2, 0], "b": [3, 8, 9, 2, 9, 7],
    ...                      "e": [1, 0, 0, 1, 1, 1], "x": [1, 1, 0, 1, 1, 0]})
    >>> fit = recurrent("Surv(a, b, e) ~ x", data, id="id")
    >>> bool(fit.hazard_ratios()["estimate"][0] > 1)
    True
    """
    choose(model, MODELS, "model")
    if ties is not None:
        choose(ties, TIES, "ties")
    parsed = parse(formula)
    start, stop, event = _response(parsed.response, formula)
    surv = _unpacked(formula, data, id, order)
    frame = _with_episodes(surv, id)
    if model in ("poisson", "negative-binomial"):
        return _counts(surv, frame, id, model, level, order)
    right = formula.split("~", 1)[1].strip()
    clustered = right if parsed.cluster else f"{right} + cluster({_quoted(id)})"
    sas = check_convention(convention) == "SAS"
    ties = ties or ("breslow" if model == "lwyy" or sas else "efron")
    if model in ("andersen-gill", "lwyy"):
        left, rows = f"Surv({start}, {stop}, {event})", frame
    elif model == "wlw":
        left, rows = "Surv(STOP__, EVENT__)", _marginal(frame, id, episodes or 3)
        clustered = f"{clustered} + strata({EPISODE})"
    else:
        rows = frame.assign(**{EPISODE: np.minimum(frame[EPISODE], episodes or frame[EPISODE].max())})
        left = f"Surv({start}, {stop}, {event})" if model == "pwp-total" else _gap_response(rows)
        clustered = f"{clustered} + strata({EPISODE})"
    fit = cox(f"{left} ~ {clustered}", rows, ties=ties, level=level, order=order)
    return _titled(fit, model, surv, id)


def _unpacked(formula: str, data: FrameLike, id: str, order: Mapping[str, Sequence[Any]] | None) -> SurvData:
    """The rows used; when the formula speaks of EPISODE, the column is made first."""
    if EPISODE not in formula:
        return unpack(formula, data, order=order, extra=[f"`{id}`"])
    raw = frames.to_pandas(data)
    timing = unpack(f"{formula.split('~', 1)[0]} ~ 1", raw, extra=[f"`{id}`"])
    found = _with_episodes(dataclasses.replace(timing, frame=timing.frame.assign(ROW__=timing.kept)), id)
    numbered = pd.Series(found[EPISODE].to_numpy(), index=found["ROW__"].to_numpy())
    surv = unpack(formula, raw.assign(**{EPISODE: numbered}), order=order, extra=[f"`{id}`"])
    return dataclasses.replace(surv, kind=frames.kind(data))


def _response(response: Any, formula: str) -> tuple[str, str, str]:
    if not isinstance(response, Surv) or len(response.args) != 3:
        raise FormulaError(f"{formula!r}: recurrent events need Surv(start, stop, event), one row per time at risk.")
    return response.args[0], response.args[1], response.args[2]


def _quoted(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z_.][\w.]*", name) else f"`{name}`"


def _with_episodes(surv: SurvData, id: str) -> pd.DataFrame:
    """The rows used with START__ STOP__ EVENT__ and the number of the episode; overlapping rows are an error."""
    assert surv.entry is not None
    frame = surv.frame.assign(START__=surv.entry, STOP__=surv.time, EVENT__=surv.event.astype(np.int64))
    frame = frame.sort_values([id, "START__"], kind="stable").reset_index(drop=True)
    who = pd.factorize(frame[id])[0]  # a shifted column of whole numbers would become floats
    same = np.append(False, who[1:] == who[:-1])[: len(who)]
    over = same & (frame["START__"] < frame["STOP__"].shift()).to_numpy(bool)
    if over.any():
        raise DataError(
            f"{int(over.sum())} rows start before the subject's previous row stops ({id} "
            f"{first_ids(frame.loc[over, id])}). Rows (start, stop] of a subject must not overlap."
        )
    earlier = frame.groupby(id, sort=False, observed=True)["EVENT__"].cumsum() - frame["EVENT__"]
    frame[EPISODE] = earlier.to_numpy(np.int64) + 1
    begin = frame.groupby([id, EPISODE], sort=False, observed=True)["START__"].transform("first")
    return frame.assign(GAPSTART__=frame["START__"] - begin, GAPSTOP__=frame["STOP__"] - begin)


def _gap_response(rows: pd.DataFrame) -> str:
    return "Surv(GAPSTART__, GAPSTOP__, EVENT__)" if rows["GAPSTART__"].gt(0).any() else "Surv(GAPSTOP__, EVENT__)"


def _marginal(frame: pd.DataFrame, id: str, episodes: int) -> pd.DataFrame:
    """Per subject and k = 1..episodes: the time of the k-th event or the end of follow-up; covariates as first seen."""
    grouped = frame.groupby(id, sort=False, observed=True)
    end = grouped["STOP__"].max()
    base = frame.drop_duplicates(id)
    events = frame.loc[frame["EVENT__"] == 1].set_index([id, EPISODE])["STOP__"]
    parts = []
    for k in range(1, episodes + 1):
        times = events.xs(k, level=EPISODE) if k in events.index.get_level_values(EPISODE) else events.iloc[:0]
        found = base[id].map(dict(times.items())) if len(times) else pd.Series(np.nan, index=base.index)
        parts.append(
            base.assign(
                **{EPISODE: k},
                STOP__=found.fillna(base[id].map(end)).to_numpy(float),
                EVENT__=found.notna().to_numpy(np.int64),
            )
        )
    return pd.concat(parts, ignore_index=True)


def _titled(fit: Any, model: str, surv: SurvData, id: str) -> Any:
    """The Cox fit under the name of the recurrent-event model."""
    subjects = surv.frame[id].nunique()
    method = f"{TITLES[model]}, robust variance by {id}"
    sentence = f"{method}; {surv.sentence()}; {subjects} values of {id}; {fit.meta['method']}"
    said = {"method": method, "sentence": sentence, "recurrent": model, "n_subjects": subjects}
    return dataclasses.replace(fit, meta={**fit.meta, **said})


@shown_as("rate_ratios")
@sealed
@dataclass(frozen=True)
class CountModel:
    """A fitted count regression."""

    coefficients: Estimates
    vcov: FloatArray
    kernel: CountFit
    meta: dict[str, Any]
    nobs: int

    @property
    def loglik(self) -> float:
        """Log-likelihood at the estimate."""
        return self.kernel.loglik

    @property
    def converged(self) -> bool:
        """Whether the maximum is certified and finite."""
        return self.kernel.converged and bool(np.isfinite(self.kernel.coef).all())

    @property
    def theta(self) -> float:
        """Size of the negative binomial: variance mu + mu^2/theta."""
        return self.kernel.theta

    @property
    def n_parameters(self) -> int:
        """Coefficients, and theta of the negative binomial."""
        return int(self.kernel.coef.size + np.isfinite(self.kernel.theta))

    @property
    def aic(self) -> float:
        """Akaike's criterion."""
        return 2.0 * self.n_parameters - 2.0 * self.loglik

    @property
    def bic(self) -> float:
        """Bayesian criterion, with the number of subjects."""
        return float(np.log(self.nobs)) * self.n_parameters - 2.0 * self.loglik

    @property
    def n_subjects(self) -> int:
        """Subjects used."""
        return self.nobs

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the reader of these numbers has to know."""
        return tuple(self.meta["warnings"])

    def summary(self) -> Estimates:
        """The rate ratios."""
        return self.rate_ratios()

    def rate_ratios(self) -> Estimates:
        """exp(coefficient); the intercept row is the rate at covariates zero."""
        return natural(self.coefficients, "Rate ratios")

    def plot(self, ax: Any = None, **options: Any) -> Any:
        """A forest of the rate ratios."""
        rows = self.rate_ratios()
        return Estimates(rows.frame.iloc[1:].reset_index(drop=True), rows.meta).plot(ax=ax, **options)

    def explain(self) -> str:
        """The methods paragraph."""
        return f"{self.meta['sentence']}. Events per subject with log follow-up as offset."


def _counts(
    surv: SurvData, frame: pd.DataFrame, id: str, model: str, level: float, order: Mapping[str, Sequence[Any]] | None
) -> CountModel:
    """Counts and follow-up per subject, covariates as first seen; follow-up is the time at risk up to the last row."""
    refuse_terms(surv, "a count model")
    first = frame.drop_duplicates(id).reset_index(drop=True)
    grouped = frame.groupby(id, sort=False, observed=True)
    y = grouped["EVENT__"].sum().reindex(first[id]).to_numpy(float)
    follow = grouped["STOP__"].max().reindex(first[id]).to_numpy(float)
    cov = covariates(dataclasses.replace(surv, frame=first), order, empty=True)
    X = np.column_stack([np.ones(len(first)), cov.X])
    fit = supremum(y, X, np.log(follow), negative_binomial=model == "negative-binomial")
    if not fit.converged:
        more = " When counts do not vary more than Poisson counts, theta is infinite: use model='poisson'."
        raise ConvergenceError(
            f"{surv.formula.text!r}, {model}: no maximum found (theta {fit.theta:.3g})."
            f"{more if model == 'negative-binomial' else ' Rescale large covariates.'}"
        )
    notes = limit_notes(cov, fit.coef[1:], np.ones(len(cov.names) - int(cov.aliased.sum()), bool), y > 0)
    aliased = np.append(False, cov.aliased)
    method = f"{model} regression of the number of events, log follow-up as offset"
    meta = estimates.meta(
        method=method,
        level=level,
        scale="log",
        title="Rate ratios",
        sentence=f"{method}; {surv.sentence()}; {len(first)} values of {id}",
        estimand="log rate ratio",
        warnings=(*cov.warnings, *map(warn, notes)),
        data=surv.data_print,
        frame_kind=surv.kind,
        theta=fit.theta,
        theta_error=fit.theta_error,
    )
    V = spread(fit.vcov, aliased)
    measure = {"measure": "rate ratio", "measures": {"term": {"(Intercept)": "rate"}}}
    table = coefficient_table(["(Intercept)", *cov.names], spread(fit.coef, aliased), V, meta, level, **measure)
    return CountModel(table, V, fit, meta, len(first))


@shown_as("estimates")
@sealed
@dataclass(frozen=True)
class MeanCumulativeFunction:
    """Expected number of events per subject over time, by group."""

    frame: pd.DataFrame
    groups: Groups
    curves: tuple[MeanCumulative, ...]
    source: tuple[str, pd.DataFrame, str]
    meta: dict[str, Any]
    follow_up: FollowUp

    def to_frame(self) -> Any:
        """Stratum columns, time n_risk n_event estimate std_error conf_low conf_high."""
        return frames.restore(stored(self), self.meta["frame_kind"])

    @property
    def estimates(self) -> Estimates:
        """The rows as `Estimates`."""
        about: dict[str, Any] = {"ylabel": "Expected events per subject", "n_at_risk": self.follow_up.below}
        options = {"strata": list(self.groups.frame.columns), **about}
        return Estimates(stored(self), self.meta, picture=Picture("cumulative_incidence", options))

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the reader of these numbers has to know."""
        return tuple(self.meta["warnings"])

    def curve(self, group: int = 0) -> Curve:
        """One curve as a step function, 0 before its first step, NaN past follow-up."""
        found, until = self.curves[group], float(self.follow_up.last[group])
        return Curve(found.time, found.mean, 0.0, until, self.groups.labels[group])

    def at(self, times: float | Sequence[float], *, extend: bool = False) -> Estimates:
        """Expected events per subject by each of `times`; NE past a group's follow-up unless ``extend=True``."""
        t = self.follow_up.asked(times)
        parts = []
        for g, found in enumerate(self.curves):
            mean, error = (Curve(found.time, values, 0.0)(t) for values in (found.mean, found.std_error))
            key = {c: [v] * t.size for c, v in self.groups.frame.iloc[g].items()}
            parts.append(_with_limits(pd.DataFrame({**key, "time": t}), mean, error, self.meta["level"]))
        made = Estimates(pd.concat(parts, ignore_index=True), {**self.meta, "title": "Expected number of events"})
        return self.follow_up.within(made, each(len(self.groups), t.size), extend=extend)

    def test(self) -> Estimates:
        """Robust score test of equal rates (Lin, Wei, Yang and Ying 2000) for the groups."""
        if len(self.groups) < 2:
            raise FormulaError("A test needs two groups; name a grouping column on the right-hand side.")
        formula, rows, id = self.source
        tests = recurrent(formula, rows, id=id, model="lwyy").tests().frame
        row = tests.loc[(tests["test"] == "robust score").to_numpy()].reset_index(drop=True)
        return Estimates(row, {**self.meta, "title": "Equal mean functions", "method": "robust score test (LWYY)"})

    def plot(self, ax: Any = None, **options: Any) -> Any:
        """Step curves with bands."""
        return self.estimates.plot(ax=ax, **options)

    def explain(self) -> str:
        """The methods paragraph."""
        return f"{self.meta['sentence']}. Robust variance of Lawless and Nadeau (Technometrics 1995; 37: 158-168)."


def mean_cumulative_function(
    formula: str,
    data: FrameLike,
    *,
    id: str = "USUBJID",
    level: float = 0.95,
    order: Mapping[str, Sequence[Any]] | None = None,
) -> MeanCumulativeFunction:
    """Mean cumulative function of recurrent events by group, robust standard errors by subject.

    M(t) = sum over event times u <= t of d(u)/n(u); the variance is the sum over subjects of their squared influence.

    Parameters
    ----------
    formula : ``Surv(start, stop, event) ~ groups``
    id : the column that names the subject

    Returns
    -------
    MeanCumulativeFunction : ``to_frame() at(times) test() curve() plot()``; limits on the log scale

    Agrees with
    -----------
    R survival 3.5-3 (survfit with id and cluster, cumulative hazard and its error), below 1e-10.

    References
    ----------
    Nelson (1988) J Qual Technol 20: 24-35. Lawless and Nadeau (1995) Technometrics 37: 158-168.

    Examples
    --------
    >>> import pandas as pd
    >>> data = pd.DataFrame({"id": [1, 1, 2], "a": [0, 3, 0], "b": [3, 8, 9], "e": [1, 0, 0]})
    >>> mean_cumulative_function("Surv(a, b, e) ~ 1", data, id="id").at(5)["estimate"].tolist()
    [0.5]
    """
    check_level(level)
    _response(parse(formula).response, formula)
    surv = unpack(formula, data, order=order, extra=[f"`{id}`"])
    refuse_terms(surv, "a mean cumulative function", allow=("strata",))
    _with_episodes(surv, id)
    groups = group_rows(surv.frame, [*group_terms(surv.formula), *surv.formula.strata], order)
    surv = compared(surv, groups)
    subject = pd.factorize(surv.frame[id])[0].astype(np.int64)
    assert surv.entry is not None
    curves, parts = [], []
    for g in range(len(groups)):
        rows = groups.codes == g
        found = mean_cumulative(surv.entry[rows], surv.time[rows], surv.event[rows], _dense(subject[rows]))
        key = {c: [v] * found.time.size for c, v in groups.frame.iloc[g].items()}
        counts = {"time": found.time, "n_risk": _whole(found.n_risk), "n_event": _whole(found.n_event)}
        parts.append(_with_limits(pd.DataFrame({**key, **counts}), found.mean, found.std_error, level))
        curves.append(found)
    method = f"mean cumulative function, robust variance by {id}, log limits"
    meta = estimates.meta(
        method=method,
        level=level,
        title="Mean cumulative function",
        sentence=f"{method}; {surv.sentence()}",
        warnings=surv.warnings,
        estimand="expected number of events per subject by the time",
        data=surv.data_print,
        frame_kind=surv.kind,
    )
    ordered = _ordered(surv.frame, groups)
    source, follow_up = (formula, ordered, id), FollowUp.of(surv, groups)
    return MeanCumulativeFunction(pd.concat(parts, ignore_index=True), groups, tuple(curves), source, meta, follow_up)


def _ordered(frame: pd.DataFrame, groups: Groups) -> pd.DataFrame:
    """Grouping columns as categoricals in the order of the curves, so that a later fit has the same reference."""
    held = {name: list(f.values) for name, f in groups.factors.items() if name in frame}
    return frame.assign(**{name: pd.Categorical(frame[name], order, ordered=True) for name, order in held.items()})


def _dense(codes: IntArray) -> IntArray:
    return np.unique(codes, return_inverse=True)[1].astype(np.int64)


def _whole(counts: FloatArray) -> IntArray:
    return np.round(counts).astype(np.int64)


def _with_limits(frame: pd.DataFrame, mean: FloatArray, error: FloatArray, level: float) -> pd.DataFrame:
    """Estimate, standard error and limits on the log scale (missing while the mean is 0)."""
    z = float(ndtri(0.5 + level / 2.0))
    with np.errstate(divide="ignore", invalid="ignore"):
        spread_ = np.exp(z * error / mean)
        low, high = np.where(mean > 0, mean / spread_, np.nan), np.where(mean > 0, mean * spread_, np.nan)
    return frame.assign(estimate=mean, std_error=error, conf_low=low, conf_high=high)
