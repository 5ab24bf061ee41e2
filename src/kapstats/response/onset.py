"""When the effect starts and how long it lasts: visit of separation, half-time of onset, waning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from kapstats import frames
from kapstats._types import BoolArray, FloatArray, FrameLike
from kapstats.errors import DataError, EstimabilityError, FormulaError, choose, first_ids
from kapstats.estimates import Estimates, meta
from kapstats.inference.intervals import check_level, t_quantile
from kapstats.response.curves import Model, covariance, fit_curves, profile_limits, warn_edges

LN2 = float(np.log(2))

def _onset(t: FloatArray, h: FloatArray) -> FloatArray:
    return -np.expm1(-LN2 * t / h)[..., None]


def _onset_and_waning(t: FloatArray, h: FloatArray) -> FloatArray:
    return (np.exp2(-t / h[:, [1]]) * -np.expm1(-LN2 * t / h[:, [0]]))[..., None]


MODELS = {
    "onset": Model(
        ("plateau",), ("onset_half_time",), ((0.005, 3.0),), _onset,
        intercept=False,
    ),
    "onset-and-waning": Model(
        ("peak_scale",), ("onset_half_time", "waning_half_time"), ((0.005, 3.0), (0.05, 20.0)),
        _onset_and_waning,
        intercept=False,
    ),
}  # fmt: skip


def separation(contrasts: Estimates, visit: str, *, alpha: float = 0.05, adjust: str = "none") -> Estimates:
    """The visit from which an arm is separated from control, with the family-wise error held at `alpha`.

    Visits are tested in a fixed sequence from the last to the first, each at `alpha`; testing stops at the first that
    fails. The visit of separation is the earliest in the unbroken run of rejections that ends at the last visit.

    Parameters
    ----------
    contrasts : rows of one or several contrasts by `visit`, in visit order, with unadjusted p values
    adjust : over several contrasts: "none" (`alpha` for each), or "bonferroni" (`alpha` divided by their number, which
        holds the family-wise error over contrasts and visits together)

    Returns
    -------
    Estimates with one row per contrast: ``contrast``, `visit` (missing when the last visit is not separated),
    ``estimate`` (the difference there), ``p_value``, ``n_separated`` visits.

    Raises
    ------
    DataError
        When a contrast has a visit twice.

    References
    ----------
    Maurer, Hothorn & Lehmacher (1995): a priori ordered hypotheses.

    Examples
    --------
    >>> rows = pd.DataFrame({"contrast": "KAP - Placebo", "AVISIT": [1, 7, 14], "estimate": [-1.0, -4.0, -5.0]})
    >>> separation(Estimates(rows.assign(p_value=[0.2, 0.01, 0.001])), "AVISIT")["AVISIT"].tolist()
    [7]
    """
    frames.require(contrasts.frame, ["contrast", visit, "estimate", "p_value"], "contrasts")
    groups = list(contrasts.frame.groupby("contrast", sort=False, observed=True))
    each = alpha / len(groups) if choose(adjust, ("none", "bonferroni"), "adjust") == "bonferroni" else alpha
    rows = [_separated(name, part, visit, each) for name, part in groups]
    frame = pd.DataFrame(rows, columns=["contrast", visit, "estimate", "p_value", "n_separated"])
    of = "per contrast" if adjust == "none" else f"over {len(groups)} contrasts (Bonferroni)"
    sentence = f"Fixed sequence from the last visit back, each at {each:g}: family-wise error {alpha:g} {of}."
    return Estimates(frame, meta(method="visit of separation", level=None, title="Separation", sentence=sentence))


def _separated(name: Any, part: pd.DataFrame, visit: str, alpha: float) -> tuple[Any, ...]:
    if part["p_value"].isna().any():
        lost = first_ids(part.loc[part["p_value"].isna(), visit])
        raise EstimabilityError(f"{name}: no p value at {lost}; the sequence cannot pass a visit that was not tested.")
    if part[visit].duplicated().any():
        raise DataError(f"{name}: {visit} {part.loc[part[visit].duplicated(), visit].iloc[0]!r} stands twice.")
    rejected = (part["p_value"] < alpha).to_numpy()
    run = int(np.argmin(np.append(rejected[::-1], False)))
    if run == 0:
        return name, None, np.nan, float(part["p_value"].iloc[-1]), 0
    at = part.iloc[len(part) - run]
    return name, at[visit], float(at["estimate"]), float(at["p_value"]), run


def onset_curve(
    differences: Estimates | pd.DataFrame,
    time: Sequence[float],
    *,
    model: str = "onset",
    vcov: FloatArray | None = None,
    level: float = 0.95,
) -> Estimates:
    """Exponential onset (and waning) of a treatment difference, fitted to LS-mean differences by visit.

    onset: plateau (1 - 2^(-t / h)); onset-and-waning: scale 2^(-t / w) (1 - 2^(-t / h)), by generalised least squares
    with the covariance of the differences; Wald limits of the
    plateau, profile limits of the half-times (0 or infinite where the data do not bound them).

    Parameters
    ----------
    differences : one row per visit
    time : time of each row since treatment, in one unit (half-times come in it)
    vcov : (k, k); default that of `differences`, else the diagonal of its standard errors

    Raises
    ------
    DataError, EstimabilityError
        When there are fewer visits than parameters, or a difference is not a number.

    Examples
    --------
    >>> rows = pd.DataFrame({"estimate": [-3.0, -5.9, -6.0, -6.0], "std_error": 0.5})
    >>> found = onset_curve(rows, [1, 7, 14, 28])
    >>> found["term"].tolist(), round(float(found["estimate"][0]), 1)
    (['plateau', 'onset_half_time'], -6.0)
    """
    chosen = {model: MODELS[choose(model, MODELS, "model")]}
    frame = differences.frame if isinstance(differences, Estimates) else frames.to_pandas(differences)
    frames.require(frame, ["estimate"], "differences")
    x, y = np.asarray(time, dtype=float), frames.numbers(frame, "estimate", "differences")
    own = differences.vcov if isinstance(differences, Estimates) else None
    cov = np.diag(frames.numbers(frame, "std_error", "differences") ** 2) if vcov is None and own is None else vcov
    cov = np.asarray(own if cov is None else cov, dtype=float)
    needed = len(chosen[model].linear) + len(chosen[model].nonlinear)
    if len(x) != len(y) or len(np.unique(x)) < needed:
        raise DataError(f"{model}: {len(y)} differences and {len(x)} times; it needs at least {needed} distinct times.")
    if not (np.isfinite(y).all() and np.isfinite(cov).all()):
        raise EstimabilityError("onset_curve: a difference or its covariance is not a number; leave out that visit.")
    point = fit_curves(chosen, x, y, cov)[0]
    working, spread = covariance(point, x, cov)
    error = np.sqrt(np.diag(spread))
    reach = float(t_quantile((1 + check_level(level)) / 2, np.inf)) * error
    natural = np.arange(len(working)) < len(point.model.linear)
    value = np.where(natural, working, np.exp(working))
    rows = pd.DataFrame({"term": list(point.parameters), "estimate": value})
    rows["std_error"] = np.where(natural, error, value * error)
    limits = [(w - r, w + r) for w, r in zip(working, reach, strict=True)][: len(point.model.linear)]
    rise = float(t_quantile((1 + level) / 2, np.inf)) ** 2
    limits += [profile_limits(point, x, y, cov, name, rise) for name in point.model.nonlinear]
    rows["conf_low"], rows["conf_high"] = np.array(limits).T
    sentence = f"{model}; {len(y)} visits; weighted residual form {point.rss:.2f}."
    said = warn_edges([point], x, "time")
    about = meta(method="generalised least squares on differences", level=level, sentence=sentence, warnings=said)
    return Estimates(rows, about)


def time_to_response(
    data: FrameLike | Any,
    *,
    threshold: float = 50.0,
    remission: float | None = None,
    sustained: int = 1,
    subject: str = "USUBJID",
    day: str = "ADY",
    value: str = "AVAL",
    baseline: str = "BASE",
    keep: Sequence[str] = ("TRT01P", "TRT01PN"),
) -> pd.DataFrame:
    """Time to the first response of every subject, as rows for ``ks.kaplan_meier``, ``ks.logrank`` and ``ks.turnbull``.

    Response is a fall of `value` from `baseline` by at least `threshold` percent, or a value at or below `remission`.
    It is seen at visits only: it happened after LEFT (the last visit without it) and by RIGHT (the visit that saw it).

    Parameters
    ----------
    data : long table of scores with their study day (ADQS) or a Trial; rows on or before day 1, or without a score, are
        not assessments
    threshold : percent
    remission : a limit of the score instead of the percentage
    sustained : consecutive assessments that have to respond; the first of them counts
    keep : columns constant within subjects that are carried over where they are there

    Returns
    -------
    DataFrame with one row per subject: `subject`, `keep`, PARAMCD, AVAL (days to the first response, or to the last
    assessment), CNSR (0 responded), EVNTDESC, LEFT, RIGHT (infinite when not seen).

    Raises
    ------
    DataError
        When a baseline is missing or not above zero.

    Examples
    --------
    >>> rows = {"USUBJID": [1, 1, 2, 2], "ADY": [2, 8, 2, 8], "BASE": [30.0] * 4, "AVAL": [20.0, 14.0, 28.0, 25.0]}
    >>> time_to_response(rows)[["AVAL", "CNSR", "LEFT", "RIGHT"]].values.tolist()
    [[8.0, 0.0, 2.0, 8.0], [8.0, 1.0, 8.0, inf]]
    """
    frame = frames.to_pandas(getattr(data, "adqs", data))
    frames.require(frame, [subject, day, value, *([] if remission is not None else [baseline])])
    if sustained < 1:
        raise FormulaError(f"sustained={sustained}: at least one assessment has to respond.")
    measured = [value, day] if remission is not None else [value, day, baseline]
    frame = frame.assign(**{column: frames.numbers(frame, column) for column in measured})
    rows = frame[frame[value].notna() & (frame[day] > 1)].sort_values([subject, day], kind="stable")
    if remission is None:
        bad = ~(rows[baseline] > 0)
        if bad.any():
            raise DataError(f"{baseline}: missing or not above 0 for {first_ids(rows.loc[bad, subject])}.")
        good = rows[value] - rows[baseline] * (1 - threshold / 100) <= 1e-9 * rows[baseline]
    else:
        good = rows[value] <= remission
    found = []
    for name, part in rows.assign(_good=good).groupby(subject, sort=False, observed=True):
        found.append((name, *_first_run(part[day].to_numpy(dtype=float), part["_good"].to_numpy(), sustained)))
    made = pd.DataFrame(found, columns=[subject, "AVAL", "CNSR", "LEFT", "RIGHT"])
    made = made.astype(dict.fromkeys(("AVAL", "CNSR", "LEFT", "RIGHT"), float))
    carried = [c for c in keep if c in frame]
    made = frame.drop_duplicates(subject)[[subject, *carried]].merge(made, on=subject, how="left")
    never = made["AVAL"].isna()
    made = made.fillna({"AVAL": 0.0, "CNSR": 1, "LEFT": 0.0, "RIGHT": np.inf}).astype({"CNSR": int})
    told = np.where(never, "NOT ASSESSED", np.where(made["CNSR"] == 0, "RESPONSE", "LAST ASSESSMENT"))
    made.insert(1 + len(carried), "PARAMCD", "TTRESP")
    return made.assign(EVNTDESC=told)


def _first_run(day: FloatArray, good: BoolArray, sustained: int) -> tuple[float, int, float, float]:
    """Day, censoring and bounds of the first of `sustained` responding assessments in a row."""
    runs = [k for k in range(len(day) - sustained + 1) if good[k : k + sustained].all()]
    if not runs:
        return float(day[-1]), 1, float(day[-1]), np.inf
    k = runs[0]
    return float(day[k]), 0, float(day[k - 1]) if k else 0.0, float(day[k])
