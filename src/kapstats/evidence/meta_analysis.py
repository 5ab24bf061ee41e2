"""Meta-analysis of trials: from counts, means or printed estimates to a pooled effect."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from scipy import special

from kapstats import estimates, frames
from kapstats._types import BoolArray, FloatArray, FrameLike, IntArray
from kapstats.errors import ConvergenceError, DataError, FormulaError, KapstatsWarning, choose, first_ids
from kapstats.kernels import meta
from kapstats.kernels.beta_binomial import beta_binomial

MODELS = {"fixed": "common", "fe": "common", "mh": "mantel-haenszel", "glmm": "glmm", "cm.el": "glmm"}
INVERSE_VARIANCE = tuple(meta.TAU2)
OTHERS = ("mantel-haenszel", "peto", "glmm", "glmm-approximate", "beta-binomial")
CI = {"hk": "hartung-knapp", "hksj": "hartung-knapp", "z": "normal", "wald": "normal"}
RATIOS = ("OR", "RR")
TWO_ARMS = ("RD", "OR", "RR", "AS")
ONE_ARM = ("logit", "raw", "log", "arcsine", "freeman-tukey")


@dataclass(frozen=True)
class Studies:
    """k studies as effects: names, y, v (k,), counts where they were given, and what was left out."""

    names: tuple[str, ...]
    y: FloatArray
    v: FloatArray
    counts: dict[str, FloatArray]
    dropped: tuple[str, ...]
    notes: tuple[str, ...]
    rows: IntArray  # positions of the studies used


def meta_analysis(
    studies: FrameLike,
    measure: str | None = None,
    model: str = "reml",
    ci: str = "hartung-knapp",
    *,
    level: float = 0.95,
    drop00: bool | None = None,
    add: float = 0.5,
) -> estimates.Estimates:
    """The pooled effect of independent studies, with its heterogeneity.

    With effects :math:`y_i`, variances :math:`v_i` and weights :math:`w_i = 1/(v_i + \\tau^2)` the pooled effect is
    :math:`\\hat\\mu = \\sum w_i y_i / \\sum w_i`: the mean of the distribution of effects (random effects), or the one
    effect (common).

    Parameters
    ----------
    studies : one row per study: `study` and x1 n1 x2 n2 (events of subjects, arm 1 against arm 2); or x n; or
        mean1 sd1 n1 mean2 sd2 n2; or estimate std_error (ratios on the log scale). Other columns are ignored
    measure : "RD", "OR", "RR", "AS" (arcsine difference) for two arms; "SMD" (Hedges' g) and "MD" for means; "logit",
        "raw", "log", "arcsine", "freeman-tukey" for one proportion; names the scale of given estimates. By default
        "RR" for two arms and "logit" for one
    model : tau^2 by "reml", "dl", "ml", "pm", "eb", "sj", "he", "hs", or "common" (tau^2 = 0); "mantel-haenszel",
        "peto" (common effect, no correction of zero cells); "glmm" (exact conditional likelihood with a random study
        effect for OR; binomial-normal for logit), "glmm-approximate" (its binomial approximation for rare events),
        "beta-binomial" (OR or logit: events of each arm vary between studies as a beta distribution, one
        intra-study correlation; every study counts, without any event too)
    ci : "hartung-knapp" (t on k - 1), "hartung-knapp-adhoc" (never narrower than the normal one), "normal"; models
        other than inverse variance have the normal interval
    drop00 : leave out studies without any event in both arms (or with events only). By default they stay for RD and AS
        and are left out for OR and RR, about which they hold no information
    add : added to every cell of a study with a zero cell, for inverse-variance models

    Returns
    -------
    Estimates
        First row: ``term`` "pooled" with estimate, std_error, df, statistic, p_value, conf_low, conf_high, pred_low,
        pred_high (prediction interval for a new study) and k; then one row per study with its normal interval and
        ``weight`` in percent. Ratios are on the log scale (``.exponentiate()``). ``.meta``: tau2, se_tau2, tau2_low,
        tau2_high (Q profile), i2, h2, q, q_df, q_p_value, k, k_dropped, dropped, corrected. ``.plot()`` is the forest,
        ``.plot(figure="funnel")`` the funnel.

    Raises
    ------
    DataError
        For missing columns, impossible counts, or fewer than one study with information.

    Agrees with
    -----------
    R metafor 5.0-1 (rma.uni, rma.mh, rma.peto; with its double-zero studies kept, ``drop00=False``) to 1e-6, its
    iterations' limit; closed forms to rounding. rma.glmm to 1e-3.

    References
    ----------
    DerSimonian & Laird 1986; Hartung & Knapp 2001; Viechtbauer 2005, 2010; Robins, Breslow & Greenland 1986; Greenland
    & Robins 1985; Sato 1989; Stijnen, Hamza & Ozdemir 2010.

    Examples
    --------
    >>> trials = {"study": ["A", "B"], "estimate": [-3.8, -3.9], "std_error": [1.39, 1.39]}
    >>> pooled = meta_analysis(trials, model="common", ci="normal")
    >>> print(pooled["estimate"][0].round(2), pooled["std_error"][0].round(3))
    -3.85 0.983
    """
    model = MODELS.get(model.lower(), model.lower())
    ci = CI.get(ci.lower(), ci.lower())
    choose(model, (*INVERSE_VARIANCE, *OTHERS), "model")
    choose(ci, ("hartung-knapp", "hartung-knapp-adhoc", "normal"), "ci")
    frame = frames.to_pandas(studies)
    given, measure = _read(frame, measure, drop00, add, model)
    notes = list(given.notes)
    if model in INVERSE_VARIANCE:
        row, about = _inverse_variance(given, model, ci, level)
    else:
        row, about = _from_counts(given, measure, model, level)
        ci = "normal"
    k = len(given.y)
    if k == 1:
        notes.append("One study: nothing is pooled; the interval is its own normal one.")
    for note in notes:
        warnings.warn(note, KapstatsWarning, stacklevel=2)
    table = pd.DataFrame([row, *_study_rows(given, about.pop("weights"), level)])
    description = estimates.meta(
        method=f"meta-analysis, {_name(model)}, {ci} interval",
        level=level,
        scale="log" if measure in (*RATIOS, "log") else ("logit" if measure == "logit" else "identity"),
        title=f"Meta-analysis of {measure}",
        sentence=_sentence(given, measure, model, ci, about),
        conventions=_conventions(given, measure, model, ci, add),
        warnings=notes,
        data=frame,
        frame_kind=frames.kind(studies),
        measure=measure,
        model=model,
        ci=ci,
        k=k,
        k_dropped=len(given.dropped),
        dropped=given.dropped,
        figure="forest",
        forest={"label": "term", "digits": 2, "xlabel": f"log {measure}" if measure in RATIOS else measure},
        **about,
    )
    return estimates.Estimates(table, description)


def _read(frame: pd.DataFrame, measure: str | None, drop00: bool | None, add: float, model: str) -> tuple[Studies, str]:
    """The studies as effects, from the columns that are there."""
    columns = set(frame.columns)
    names = tuple(frame["study"].astype(str)) if "study" in columns else tuple(str(i + 1) for i in range(len(frame)))
    chosen = {m.lower(): m for m in (*TWO_ARMS, *ONE_ARM, "SMD", "MD")}.get(str(measure).lower(), measure)
    if {"x1", "n1", "x2", "n2"} <= columns and chosen not in ("SMD", "MD"):
        return _two_arms(frame, names, choose(chosen or "RR", TWO_ARMS, "measure"), drop00, add, model)
    if {"x", "n"} <= columns and chosen in (None, *ONE_ARM):
        return _one_arm(frame, names, chosen or "logit", add)
    if model not in INVERSE_VARIANCE:
        raise FormulaError(f"model={model!r} needs counts: columns x1 n1 x2 n2 (or x n for glmm).")
    if {"mean1", "sd1", "n1", "mean2", "sd2", "n2"} <= columns and chosen in (None, "SMD", "MD"):
        return _means(frame, names, chosen or "SMD")
    if {"estimate", "std_error"} <= columns:
        y, se = (_column(frame, c) for c in ("estimate", "std_error"))
        if (se <= 0).any():
            raise DataError(f"std_error: {int((se <= 0).sum())} studies have none above 0.")
        return _complete(names, y, se**2, {}), chosen or "estimate"
    raise DataError(
        "meta_analysis needs x1 n1 x2 n2, or x n, or mean1 sd1 n1 mean2 sd2 n2, or estimate std_error. "
        f"The table has: {', '.join(map(str, frame.columns))}."
    )


def _column(frame: pd.DataFrame, name: str) -> FloatArray:
    values = pd.to_numeric(frame[name], errors="coerce")
    bad = frame.loc[values.isna() & frame[name].notna(), name]
    if len(bad):
        raise DataError(f"{name}: {len(bad)} values are not numbers ({first_ids(bad)}).")
    return values.to_numpy(dtype=float)


def _counts(frame: pd.DataFrame, pairs: tuple[tuple[str, str], ...]) -> dict[str, FloatArray]:
    found = {name: _column(frame, name) for pair in pairs for name in pair}
    for x, n in pairs:
        wrong = (found[x] < 0) | (found[x] > found[n]) | (found[n] <= 0) | (found[x] % 1 != 0) | (found[n] % 1 != 0)
        if wrong.any():
            rows = np.flatnonzero(wrong) + 1
            raise DataError(f"{x}, {n}: {len(rows)} studies have impossible counts (row {first_ids(rows)}).")
    return found


def _two_arms(
    frame: pd.DataFrame, names: tuple[str, ...], measure: str, drop00: bool | None, add: float, model: str
) -> tuple[Studies, str]:
    c = _counts(frame, (("x1", "n1"), ("x2", "n2")))
    y, v = meta.two_by_two(c["x1"], c["n1"], c["x2"], c["n2"], measure, add)
    none = (c["x1"] + c["x2"] == 0) | (c["x1"] + c["x2"] == c["n1"] + c["n2"])
    both = none if measure != "RR" else c["x1"] + c["x2"] == 0
    leave = (measure in RATIOS and model != "beta-binomial") if drop00 is None else drop00
    zero = (c["x1"] == 0) | (c["x1"] == c["n1"]) | (c["x2"] == 0) | (c["x2"] == c["n2"])
    kept = ~both if leave else np.ones(len(y), dtype=bool)
    studies = _complete(names, y, v, c, kept, "no event in either arm, or nothing but events")
    corrected = [name for name, z in zip(names, zero & kept, strict=True) if z]
    if corrected and model in INVERSE_VARIANCE and measure != "AS":
        studies = replace(studies, counts={**studies.counts, "_corrected": np.array([len(corrected)])})
    return studies, measure


def _one_arm(frame: pd.DataFrame, names: tuple[str, ...], measure: str, add: float) -> tuple[Studies, str]:
    c = _counts(frame, (("x", "n"),))
    y, v = meta.one_proportion(c["x"], c["n"], measure, add)
    return _complete(names, y, v, c), measure


def _means(frame: pd.DataFrame, names: tuple[str, ...], measure: str) -> tuple[Studies, str]:
    m1, s1, n1, m2, s2, n2 = (_column(frame, c) for c in ("mean1", "sd1", "n1", "mean2", "sd2", "n2"))
    if measure == "MD":
        return _complete(names, m1 - m2, s1**2 / n1 + s2**2 / n2, {}), measure
    y, v = meta.standardised_difference(m1, s1, n1, m2, s2, n2)
    return _complete(names, y, v, {}), measure


def _complete(
    names: tuple[str, ...],
    y: FloatArray,
    v: FloatArray,
    counts: dict[str, FloatArray],
    kept: BoolArray | None = None,
    reason: str = "",
) -> Studies:
    """Studies that say something; the others are named."""
    kept = np.ones(len(y), dtype=bool) if kept is None else kept
    whole = np.isfinite(y) & np.isfinite(v) & (v > 0)
    use = kept & whole
    if not use.any():
        raise DataError("meta_analysis: no study is left that holds information on this measure.")
    notes = []
    if (~kept).any():
        left = [n for n, k in zip(names, kept, strict=True) if not k]
        notes.append(f"{len(left)} studies left out ({reason}): {first_ids(left)}.")
    if (kept & ~whole).any():
        left = [n for n, k in zip(names, kept & ~whole, strict=True) if k]
        notes.append(f"{len(left)} studies left out (effect or variance missing): {first_ids(left)}.")
    return Studies(
        names=tuple(n for n, u in zip(names, use, strict=True) if u),
        y=y[use],
        v=v[use],
        counts={key: values[use] for key, values in counts.items()},
        dropped=tuple(n for n, u in zip(names, use, strict=True) if not u),
        notes=tuple(notes),
        rows=np.flatnonzero(use),
    )


def _inverse_variance(s: Studies, model: str, ci: str, level: float) -> tuple[dict[str, Any], dict[str, Any]]:
    pooled = meta.pool(s.y, s.v, model)
    k = len(s.y)
    se, df = pooled.std_error, np.inf
    if ci != "normal" and k > 1:
        se, df = meta.hartung_knapp(s.y, s.v, pooled.tau2, guard=ci.endswith("adhoc")), k - 1.0
    row = _row("pooled", pooled.estimate, se, df, level)
    spread = _quantile(level, df) * np.sqrt(se**2 + pooled.tau2)
    has_prediction = model != "common"
    row |= {
        "pred_low": pooled.estimate - spread if has_prediction else np.nan,
        "pred_high": pooled.estimate + spread if has_prediction else np.nan,
        "k": k,
        "weight": 100.0,
    }
    low, high = _q_profile(s, level)
    about = {
        "tau2": pooled.tau2,
        "se_tau2": pooled.se_tau2,
        "tau2_low": low,
        "tau2_high": high,
        "i2": pooled.i2,
        "h2": pooled.h2,
        "q": pooled.q,
        "q_df": k - 1,
        "q_p_value": float(special.chdtrc(k - 1, pooled.q)) if k > 1 else np.nan,
        "corrected": int(s.counts["_corrected"][0]) if "_corrected" in s.counts else 0,
        "weights": pooled.weights,
    }
    return row, about


def _q_profile(s: Studies, level: float) -> tuple[float, float]:
    """Limits of tau^2 where Q(tau^2) equals its chi-square quantiles (Viechtbauer 2007)."""
    k = len(s.y)
    if k < 2:
        return np.nan, np.nan
    tail = (1 - level) / 2
    low, high = (float(special.chdtri(k - 1, p)) for p in (tail, 1 - tail))
    return meta.q_profile_root(s.y, s.v, low), meta.q_profile_root(s.y, s.v, high)


def _from_counts(s: Studies, measure: str, model: str, level: float) -> tuple[dict[str, Any], dict[str, Any]]:
    """Mantel-Haenszel, Peto and the binomial mixed models: they need no correction of zero cells."""
    tau2, q, c = 0.0, np.nan, s.counts
    k = len(s.y)
    extra: dict[str, Any] = {}
    if model.startswith("glmm"):
        estimate, se, tau2 = _glmm(s, measure, model)
    elif model == "beta-binomial":
        estimate, se, extra = _beta_binomial(s, measure)
    else:
        a, n1, b, n2 = (c[key] for key in ("x1", "n1", "x2", "n2"))
        if model == "peto":
            choose(measure, ("OR",), "measure")
            excess, variance = meta.peto(a, n1, b, n2)
            estimate, se = float(excess.sum() / variance.sum()), float(1 / np.sqrt(variance.sum()))
            there = variance > 0
            q = float((excess[there] ** 2 / variance[there]).sum() - estimate**2 * variance.sum())
            k = int(there.sum())
        else:
            choose(measure, ("OR", "RR", "RD"), "measure")
            estimate, se = meta.mantel_haenszel(a, n1, b, n2, measure)
            informative = a + b > 0  # Q compares studies that hold information
            q = float(((s.y - estimate) ** 2 / s.v)[informative].sum())
            k = int(informative.sum())
    row = _row("pooled", estimate, se, np.inf, level)
    spread = _quantile(level, np.inf) * np.sqrt(se**2 + tau2)
    mixed = model.startswith("glmm")
    row |= {
        "pred_low": estimate - spread if mixed else np.nan,
        "pred_high": estimate + spread if mixed else np.nan,
        "k": len(s.y),
        "weight": 100.0,
    }
    p_value = float(special.chdtrc(k - 1, q)) if q == q and k > 1 else np.nan
    i2 = max(0.0, 100 * (q - (k - 1)) / q) if q == q and q > 0 else (0.0 if q == q else np.nan)
    about = {"tau2": tau2, "i2": i2, "q": q, "q_df": k - 1, "q_p_value": p_value, "corrected": 0}
    return row, {**about, **extra, "weights": np.full(len(s.y), np.nan)}


def _beta_binomial(s: Studies, measure: str) -> tuple[float, float, dict[str, Any]]:
    """Log odds ratio (or logit), its standard error, and rho (tau^2 does not exist in this model)."""
    c, k = s.counts, len(s.y)
    if measure == "logit" and {"x", "n"} <= set(c):
        x, n, X = c["x"], c["n"], np.ones((k, 1))
    elif measure == "OR" and "x1" in c:
        x, n = np.r_[c["x1"], c["x2"]], np.r_[c["n1"], c["n2"]]
        X = np.column_stack([np.ones(2 * k), np.repeat([1.0, 0.0], k)])
        if 0 in (c["x1"].sum(), c["x2"].sum()):
            raise ConvergenceError("beta-binomial: one arm has no event in any study; the odds ratio is not finite.")
    else:
        raise FormulaError("model='beta-binomial' takes measure='OR' with x1 n1 x2 n2, or measure='logit' with x n.")
    fit = beta_binomial(x, n, X)
    if not fit.converged:
        raise ConvergenceError("beta-binomial: the likelihood has no maximum that could be certified.")
    at = X.shape[1] - 1
    about = {"rho": fit.rho, "loglik": fit.loglik, "tau2": np.nan}
    return float(fit.coefficients[at]), float(np.sqrt(fit.covariance[at, at])), about


def _glmm(s: Studies, measure: str, model: str) -> tuple[float, float, float]:
    c = s.counts
    if measure == "logit" and {"x", "n"} <= set(c):
        start = float(special.logit((c["x"].sum() + 0.5) / (c["n"].sum() + 1)))
        return meta.conditional_glmm(meta.binomial_loglik(c["x"], c["n"], np.zeros(len(s.y))), start)
    if measure != "OR" or "x1" not in c:
        raise FormulaError("model='glmm' takes measure='OR' with x1 n1 x2 n2, or measure='logit' with x n.")
    a, n1, b, n2 = (c[key] for key in ("x1", "n1", "x2", "n2"))
    excess, variance = meta.peto(a, n1, b, n2)
    start = float(excess.sum() / max(variance.sum(), 1e-9))
    if model == "glmm-approximate":
        return meta.conditional_glmm(meta.binomial_loglik(a, a + b, np.log(n1 / n2)), start)
    return meta.conditional_glmm(meta.hypergeometric_loglik(a, n1, b, n2), start)


def _quantile(level: float, df: float) -> float:
    p = 0.5 + level / 2
    return float(special.ndtri(p) if np.isinf(df) else special.stdtrit(df, p))


def _row(term: str, estimate: float, se: float, df: float, level: float) -> dict[str, Any]:
    statistic = estimate / se if se > 0 else np.nan
    tail = special.ndtr(-abs(statistic)) if np.isinf(df) else special.stdtr(df, -abs(statistic))
    half = _quantile(level, df) * se
    return {
        "term": term,
        "estimate": estimate,
        "std_error": se,
        "df": df,
        "statistic": statistic,
        "p_value": float(2 * tail),
        "conf_low": estimate - half,
        "conf_high": estimate + half,
    }


def _study_rows(s: Studies, weights: FloatArray, level: float) -> list[dict[str, Any]]:
    rows = zip(s.names, s.y, np.sqrt(s.v), weights, strict=True)
    return [{**_row(name, float(y), float(se), np.inf, level), "weight": float(w)} for name, y, se, w in rows]


def _name(model: str) -> str:
    return {"common": "common effect", "mantel-haenszel": "Mantel-Haenszel", "peto": "Peto"}.get(
        model, f"random effects ({model.upper()})" if model in INVERSE_VARIANCE else f"random effects ({model})"
    )


def _sentence(s: Studies, measure: str, model: str, ci: str, about: dict[str, Any]) -> str:
    text = f"{measure}, {_name(model)}, {ci} interval; {len(s.y)} studies"
    text += f", {len(s.dropped)} left out" if s.dropped else ""
    text += (
        f"; tau^2 {about['tau2']:.4g}" if model not in ("common", "mantel-haenszel", "peto", "beta-binomial") else ""
    )
    text += f"; intra-study correlation {about['rho']:.4g}" if "rho" in about else ""
    return text + (f", I^2 {about['i2']:.1f}%." if about["i2"] == about["i2"] else ".")


def _conventions(s: Studies, measure: str, model: str, ci: str, add: float) -> tuple[str, ...]:
    said = []
    if "_corrected" in s.counts:
        count = int(s.counts["_corrected"][0])
        said.append(f"{add:g} added to all cells of {count} studies with a zero cell.")
    if model in INVERSE_VARIANCE and model != "common":
        said.append(f"Prediction interval on the {'t' if ci != 'normal' else 'normal'} distribution, as metafor.")
    if measure == "RD" and model == "mantel-haenszel":
        said.append("Variance of Sato (1989).")
    if ci.startswith("hartung-knapp") and 1 < len(s.y) < 5:
        said.append(f"With {len(s.y)} studies the Hartung-Knapp interval can be far too wide, and also too narrow.")
    return tuple(said)


def leave_one_out(studies: FrameLike, measure: str | None = None, **options: Any) -> estimates.Estimates:
    """The pooled effect without each study in turn: one row per study left out (``term``).

    Parameters
    ----------
    studies, measure, options : as `meta_analysis` takes them
    """
    frame = frames.to_pandas(studies)
    names = frame["study"].astype(str) if "study" in frame else pd.Series([str(i + 1) for i in range(len(frame))])
    rows = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", KapstatsWarning)
        for i, name in enumerate(names):
            result = meta_analysis(frame.drop(index=i), measure, **options)
            first = result.frame.iloc[0].to_dict()
            rows.append({**first, "term": f"without {name}", "tau2": result.meta["tau2"], "i2": result.meta["i2"]})
        about = meta_analysis(frame, measure, **options).meta
    return estimates.Estimates(pd.DataFrame(rows), {**about, "title": "Leave one out"})


def small_study_effects(studies: FrameLike, measure: str | None = None) -> estimates.Estimates:
    """Whether small studies show larger effects: Egger's regression and Begg's rank correlation.

    Egger: the t test of the slope in a regression of the effect on its standard error, weighted by 1 / v (with
    dispersion). Begg: Kendall's tau between the standardised effects and their variances, exact for fewer than 50
    studies without ties. Small studies may differ for other reasons than selective publication.
    """
    frame = frames.to_pandas(studies)
    s, measure = _read(frame, measure, False, 0.5, "reml")
    k = len(s.y)
    if k < 3:
        raise DataError(f"small_study_effects: needs 3 studies or more; there are {k}.")
    se = np.sqrt(s.v)
    x = np.column_stack([np.ones(k), se])
    inverse = np.linalg.inv(x.T @ (x / s.v[:, None]))
    beta = inverse @ (x.T @ (s.y / s.v))
    dispersion = float(((s.y - x @ beta) ** 2 / s.v).sum() / (k - 2))
    slope = _row(
        "Egger: slope on the standard error", float(beta[1]), float(np.sqrt(dispersion * inverse[1, 1])), k - 2.0, 0.95
    )
    common = meta.pool(s.y, s.v, "common")
    standard = (s.y - common.estimate) / np.sqrt(s.v - common.std_error**2)
    tau, p_value = _kendall(standard, s.v)
    begg = {"term": "Begg: Kendall's tau", "estimate": tau, "p_value": p_value}
    description = estimates.meta(
        method="tests of small-study effects", title="Small-study effects", data=frame, measure=measure
    )
    return estimates.Estimates(pd.DataFrame([slope, begg]), description)


def _kendall(a: FloatArray, b: FloatArray) -> tuple[float, float]:
    """Kendall's tau-b and its two-sided p: exact without ties and below 50, else normal."""
    n = len(a)
    i, j = np.triu_indices(n, 1)
    sa, sb = np.sign(a[i] - a[j]), np.sign(b[i] - b[j])
    score, pairs = float((sa * sb).sum()), n * (n - 1) / 2
    ties_a, ties_b = float((sa == 0).sum()), float((sb == 0).sum())
    tau = score / np.sqrt((pairs - ties_a) * (pairs - ties_b))
    if n < 50 and not ties_a and not ties_b:
        ways = np.ones(1)
        for m in range(2, n + 1):  # number of permutations by inversions
            ways = np.convolve(ways, np.ones(m)) / m
        concordant = round((score + pairs) / 2)
        tail = ways[: min(concordant, int(pairs) - concordant) + 1].sum()
        return tau, float(min(1.0, 2 * tail))
    variance = n * (n - 1) * (2 * n + 5) / 18
    return tau, float(2 * special.ndtr(-abs(score) / np.sqrt(variance)))
