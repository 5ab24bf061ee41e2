"""What a pooled effect hangs on: single studies, and small studies with large effects."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
from scipy import special

from kapstats import estimates, frames
from kapstats._types import FloatArray, FrameLike
from kapstats.errors import DataError, FormulaError, KapstatsWarning, check_level, choose, first_ids, warn
from kapstats.evidence import knapp
from kapstats.evidence.meta_analysis import meta_analysis
from kapstats.evidence.studies import INVERSE_VARIANCE, Studies, read, scale_of
from kapstats.inference.intervals import with_inference
from kapstats.kernels import meta, small_studies
from kapstats.kernels.meta_regression import regress


def leave_one_out(studies: FrameLike, measure: str | None = None, **options: Any) -> estimates.Estimates:
    """The pooled effect without each study in turn: one row per study left out (``term``).

    Parameters
    ----------
    studies, measure, options : as `meta_analysis` takes them
    """
    frame = frames.to_pandas(studies).reset_index(drop=True)
    names = frame["study"].astype(str) if "study" in frame else pd.Series([str(i + 1) for i in range(len(frame))])
    rows, narrow = [], []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", KapstatsWarning)
        for i, name in enumerate(names):
            result = meta_analysis(frame.drop(index=i), measure, **options)
            first = result.frame.iloc[0].to_dict()
            rows.append({**first, "term": f"without {name}", "tau2": result.meta["tau2"], "i2": result.meta["i2"]})
            narrow += [f"without {name}"] if any(knapp.GUARD in text for text in result.warnings) else []
        about = meta_analysis(frame, measure, **options).meta
    notes = [text for text in about["warnings"] if knapp.GUARD not in text]
    notes += (
        [f"Hartung-Knapp standard errors below inverse variance: {first_ids(narrow)}. {knapp.GUARD}."] if narrow else []
    )
    for note in notes:
        warn(note)
    return estimates.Estimates(pd.DataFrame(rows), {**about, "title": "Leave one out", "warnings": tuple(notes)})


def small_study_effects(
    studies: FrameLike, measure: str | None = None, *, model: str = "lm", predictor: str = "std_error"
) -> estimates.Estimates:
    """Whether small studies show larger effects: Egger's regression and Begg's rank correlation.

    Egger: the slope in a regression of the effect on its standard error. Begg: Kendall's tau between the standardised
    effects and their variances, exact for fewer than 50 studies without ties. Small studies may differ for other
    reasons than selective publication.

    Parameters
    ----------
    studies, measure : as `meta_analysis` takes them; studies without any event are kept
    model : "lm" (weights 1 / v with a dispersion, t on k - 2), or an estimator of tau^2 for a mixed-effects regression
        with a normal test ("reml", "dl" ..., "common")
    predictor : "std_error", or "n" (subjects of both arms)

    Agrees with
    -----------
    R metafor 5.0-1 (regtest, ranktest) to 1e-6.
    """
    choose(model, ("lm", *INVERSE_VARIANCE), "model")
    choose(predictor, ("std_error", "n"), "predictor")
    frame = frames.to_pandas(studies)
    s, measure = read(frame, measure, False, 0.5, "reml")
    k = len(s.y)
    if k < 3:
        raise DataError(f"small_study_effects: needs 3 studies or more; there are {k}.")
    x = np.column_stack([np.ones(k), np.sqrt(s.v) if predictor == "std_error" else _sizes(s)])
    if np.ptp(x[:, 1]) == 0:
        raise DataError(f"small_study_effects: {predictor} is the same in all studies; there is nothing to regress on.")
    fit = regress(s.y, s.v, x, "common" if model == "lm" else model)
    scale = fit.q / (k - 2) if model == "lm" else 1.0
    slope = with_inference(
        pd.DataFrame({"term": [f"Egger: slope on the {'standard error' if predictor == 'std_error' else 'size'}"]}),
        fit.coefficients[1:], np.sqrt(scale * np.diag(fit.covariance)[1:]), k - 2.0 if model == "lm" else np.inf,
        level=0.95,
    )  # fmt: skip
    common = meta.pool(s.y, s.v, "common")
    standard = (s.y - common.estimate) / np.sqrt(s.v - common.std_error**2)
    tau, p_value = small_studies.kendall(standard, s.v)
    begg = pd.DataFrame({"term": ["Begg: Kendall's tau"], "estimate": [tau], "p_value": [p_value]})
    about = estimates.meta(method="tests of small-study effects", title=f"Small-study effects, {measure}", data=frame)
    return estimates.Estimates(pd.concat([slope, begg], ignore_index=True), about)


def _sizes(s: Studies) -> FloatArray:
    if "n" in s.counts:
        return s.counts["n"]
    if {"n1", "n2"} <= set(s.counts):
        return s.counts["n1"] + s.counts["n2"]
    raise FormulaError("predictor='n' needs counts: columns x1 n1 x2 n2, or x n.")


def trim_and_fill(
    studies: FrameLike, measure: str | None = None, model: str = "reml", *, estimator: str = "L0", level: float = 0.95
) -> estimates.Estimates:
    """The pooled effect after the funnel is made symmetric by mirrored studies (Duval & Tweedie 2000).

    A sensitivity analysis, not an estimate of what is missing: it takes every asymmetry for selective publication.

    Parameters
    ----------
    studies, measure, model : as `meta_analysis` takes them; studies without any event are kept
    estimator : of the number missing, "L0" or "R0"

    Returns
    -------
    Estimates
        Rows ``observed`` and ``filled`` with normal intervals; ``k``. ``.meta``: missing, side, tau2.

    Agrees with
    -----------
    R metafor 5.0-1 (trimfill) to 1e-6.
    """
    check_level(level)
    choose(model, INVERSE_VARIANCE, "model")
    choose(estimator, ("L0", "R0"), "estimator")
    frame = frames.to_pandas(studies)
    s, measure = read(frame, measure, False, 0.5, model)
    if len(s.y) < 3:
        raise DataError(f"trim_and_fill: needs 3 studies or more; there are {len(s.y)}.")
    filled = small_studies.trim_and_fill(s.y, s.v, model, estimator)
    pooled = [meta.pool(s.y, s.v, model), meta.pool(filled.y, filled.v, model)]
    table = with_inference(
        pd.DataFrame({"term": ["observed", "filled"]}),
        np.array([p.estimate for p in pooled]), np.array([p.std_error for p in pooled]), np.inf, level=level,
    ).assign(k=[len(s.y), len(filled.y)])  # fmt: skip
    about = estimates.meta(
        method=f"trim and fill, {estimator}, {model}",
        level=level,
        title=f"Trim and fill of {measure}",
        **scale_of(measure),
        sentence=f"{filled.missing} studies filled in on the {filled.side} side.",
        data=frame,
        missing=filled.missing,
        side=filled.side,
        tau2=[p.tau2 for p in pooled],
    )
    return estimates.Estimates(table, about)


def fail_safe_n(studies: FrameLike, measure: str | None = None, *, alpha: float = 0.05) -> int:
    """Rosenthal's number of studies without effect that would take away significance (one-sided `alpha`).

    Kept for comparison with print: it supposes that unpublished studies average no effect, and ignores their size.
    """
    s, _ = read(frames.to_pandas(studies), measure, False, 0.5, "common")
    total = float((s.y / np.sqrt(s.v)).sum())
    return int(np.ceil(max(0.0, (total / float(special.ndtri(1 - alpha))) ** 2 - len(s.y))))
