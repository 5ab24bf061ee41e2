"""Meta-analysis of trials: from counts, means or printed estimates to a pooled effect."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy import special

from kapstats import estimates, frames
from kapstats._types import FloatArray, FrameLike
from kapstats.errors import FormulaError, check_level, choose, warn
from kapstats.evidence import count_models, knapp
from kapstats.evidence.studies import INVERSE_VARIANCE, ONE_ARM, Studies, is_ratio, read, scale_of
from kapstats.kernels import meta

MODELS = {"fixed": "common", "fe": "common", "mh": "mantel-haenszel"} | count_models.NAMES
#: the pooled row, what goes to .meta, notes
Parts = tuple[dict[str, Any], dict[str, Any], list[str]]
CI = {"hk": "hartung-knapp", "hksj": "hartung-knapp", "z": "normal", "wald": "normal"}


def meta_analysis(
    studies: FrameLike,
    measure: str | None = None,
    model: str = "reml",
    ci: str = "hartung-knapp",
    *,
    level: float = 0.95,
    drop00: bool | None = None,
    add: float = 0.5,
    quadrature: int | None = None,
    by: object = None,
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
        "raw", "log", "arcsine", "freeman-tukey" for one proportion. With given estimates it names them: "OR", "RR",
        "HR", "IRR", "hazard ratio" ... are logs, printed as ratios. By default "RR" for two arms and "logit" for one
    model : tau^2 by "reml", "dl", "ml", "pm", "eb", "sj", "he", "hs", or "common" (tau^2 = 0); "mantel-haenszel",
        "peto" (common effect, no correction of zero cells); mixed models of the counts with a random study effect:
        "glmm" (exact conditional likelihood for OR; binomial-normal for logit), "glmm-approximate" (its binomial
        approximation for rare events), "glmm-fixed-levels" and "glmm-random-levels" (both arms binomial, the level of
        each study free, or normal); "beta-binomial" (OR or logit: events of each arm vary between studies as a beta
        distribution, one intra-study correlation; every study counts, without any event too)
    ci : "hartung-knapp" (t on k - 1; a warning where its standard error is below that of inverse variance),
        "hartung-knapp-adhoc" (never below it), "normal"; models other than inverse variance have the normal interval
    drop00 : leave out studies without any event in both arms, or with events only. By default they stay for RD and AS
        and those that hold no information are left out: both kinds for OR, those without events for RR
    add : added to every cell of a study with a zero cell, for inverse-variance models
    quadrature : points per random effect of the mixed models; 25 by default, 1 (Laplace) for "glmm-random-levels"
    by : not offered; differences between groups of studies are tested by `meta_regression`

    Returns
    -------
    Estimates
        First row: ``term`` "pooled" with estimate, std_error, df, statistic, p_value, conf_low, conf_high, pred_low,
        pred_high (prediction interval for a new study) and k; then one row per study with its normal interval and
        ``weight`` in percent. One proportion: ``proportion prop_low prop_high`` too. Ratios are logs in ``to_frame()``
        and are printed and drawn as ratios. ``.meta``: tau2, se_tau2, tau2_low, tau2_high (Q profile), i2, h2, q,
        q_df, q_p_value, k, k_dropped, dropped, corrected. ``.plot()``: forest; ``.plot(figure="funnel")``: funnel.

    Raises
    ------
    DataError
        For missing columns, impossible counts, or fewer than one study with information.
    ConvergenceError
        For a mixed model whose likelihood has no maximum: an arm without events in any study.

    Agrees with
    -----------
    R metafor 5.0-1 (rma.uni, rma.mh, rma.peto; with its double-zero studies kept, ``drop00=False``) to 1e-6, its
    iterations' limit; closed forms to rounding. rma.glmm (CM.EL, CM.AL, UM.FS, UM.RS) to 1e-3.

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
    model = MODELS.get(str(model).lower(), str(model).lower())
    ci = CI.get(str(ci).lower(), str(ci).lower())
    choose(model, (*INVERSE_VARIANCE, *count_models.MODELS), "model")
    choose(ci, ("hartung-knapp", "hartung-knapp-adhoc", "normal"), "ci")
    check_level(level)
    if by is not None:
        raise FormulaError(
            f"by={by!r}: one pooled effect a call. Test the groups by meta_regression(studies, '~ {by}')."
        )
    frame = frames.to_pandas(studies)
    given, measure = read(frame, measure, drop00, add, model)
    if model in INVERSE_VARIANCE:
        row, about, notes = _inverse_variance(given, model, ci, level)
    else:
        row, about, notes = _from_counts(given, measure, model, level, quadrature)
        ci = "normal"
    k = len(given.y)
    notes = [*given.notes, *notes]
    if k == 1:
        notes.append("One study: nothing is pooled; the interval is its own normal one.")
    for note in notes:
        warn(note)
    table = pd.DataFrame([row, *_study_rows(given, about.pop("weights"), level)])
    if measure in ONE_ARM:
        table = _with_proportions(table, given, measure)
    description = estimates.meta(
        method=f"meta-analysis, {_name(model)}, {ci} interval",
        level=level,
        **scale_of(measure),
        title=f"Meta-analysis of {measure}",
        sentence=_sentence(given, measure, model, ci, about),
        conventions=_conventions(given, measure, model, ci, add, about),
        warnings=notes,
        data=frame,
        frame_kind=frames.kind(studies),
        blank=("pred_low", "k", "weight", "proportion", "prop_low"),
        model=model,
        ci=ci,
        k=k,
        k_dropped=len(given.dropped),
        dropped=given.dropped,
        figure="forest",
        forest={"label": "term", "pooled": "pooled", "digits": 2},
        **about,
    )
    return estimates.Estimates(table, description)


def _inverse_variance(s: Studies, model: str, ci: str, level: float) -> Parts:
    pooled = meta.pool(s.y, s.v, model)
    k = len(s.y)
    se, df, notes = pooled.std_error, np.inf, list[str]()
    if ci != "normal" and k > 1:
        df, found = k - 1.0, meta.hartung_knapp(s.y, s.v, pooled.tau2, guard=ci.endswith("adhoc"))
        error, notes = knapp.checked(np.array([found]), np.array([se]), "the pooled effect")
        se = float(error[0])
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
    if low == high == 0 and k > 1:
        notes.append("The interval of tau^2 is empty: the studies agree more closely than chance would have it.")
    about = {
        "tau2": pooled.tau2,
        "se_tau2": pooled.se_tau2,
        "tau2_low": low,
        "tau2_high": high,
        "i2": pooled.i2,
        "h2": pooled.h2,
        "q": pooled.q,
        "q_df": k - 1,
        "q_p_value": _q_p_value(pooled.q, k),
        "corrected": _corrected(s),
        "weights": pooled.weights,
    }
    return row, about, notes


def _q_profile(s: Studies, level: float) -> tuple[float, float]:
    """Limits of tau^2 where Q(tau^2) equals its chi-square quantiles (Viechtbauer 2007)."""
    k = len(s.y)
    if k < 2:
        return np.nan, np.nan
    tail = (1 - level) / 2
    low, high = (float(special.chdtri(k - 1, p)) for p in (tail, 1 - tail))
    return meta.q_profile_root(s.y, s.v, low), meta.q_profile_root(s.y, s.v, high)


def _from_counts(s: Studies, measure: str, model: str, level: float, quadrature: int | None) -> Parts:
    """Models of the counts themselves."""
    found = count_models.pool(s, measure, model, quadrature)
    spread = _quantile(level, np.inf) * np.sqrt(found.std_error**2 + found.tau2)
    mixed = model.startswith("glmm")
    row = _row("pooled", found.estimate, found.std_error, np.inf, level) | {
        "pred_low": found.estimate - spread if mixed else np.nan,
        "pred_high": found.estimate + spread if mixed else np.nan,
        "k": len(s.y),
        "weight": 100.0,
    }
    about = {
        "tau2": found.tau2,
        "i2": found.i2,
        "h2": found.h2,
        "q": found.q,
        "q_df": max(0, found.k - 1),
        "q_p_value": _q_p_value(found.q, found.k),
        "corrected": 0,
        "weights": np.full(len(s.y), np.nan),
    }
    return row, about | found.extra, list(found.notes)


def _q_p_value(q: float, k: int) -> float:
    """Of Q on k - 1 df; 1 for one study, which cannot differ from itself."""
    if not np.isfinite(q):
        return np.nan
    return float(special.chdtrc(k - 1, q)) if k > 1 else 1.0


def _corrected(s: Studies) -> int:
    """Studies with a zero cell that was corrected."""
    return int(s.counts["corrected"].sum()) if "corrected" in s.counts else 0


def _with_proportions(table: pd.DataFrame, s: Studies, measure: str) -> pd.DataFrame:
    """The estimates as proportions: of the studies with their own n, of the pooled row with the harmonic mean of n."""
    if "n" not in s.counts:
        return table
    sizes = np.r_[len(s.y) / (1 / s.counts["n"]).sum(), s.counts["n"]]
    shown = {"proportion": "estimate", "prop_low": "conf_low", "prop_high": "conf_high"}
    values = {new: meta.as_proportion(table[old].to_numpy(float), sizes, measure) for new, old in shown.items()}
    return table.assign(**values)


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
    of = f" of the log {measure}" if is_ratio(measure) else ""
    has_tau2 = model not in ("common", "mantel-haenszel", "peto", "beta-binomial")
    text += f"; tau^2{of} {about['tau2']:.4g}" if has_tau2 else ""
    text += f"; intra-study correlation {about['rho']:.4g}" if "rho" in about else ""
    return text + (f", I^2 {about['i2']:.1f}%." if about["i2"] == about["i2"] else ".")


def _conventions(s: Studies, measure: str, model: str, ci: str, add: float, about: dict[str, Any]) -> tuple[str, ...]:
    said = []
    if model in INVERSE_VARIANCE and _corrected(s):
        said.append(f"{add:g} added to all cells of {_corrected(s)} studies with a zero cell.")
    if model.startswith("glmm"):
        points = about["quadrature"]
        said.append(f"Adaptive quadrature, {points} points." if points > 1 else "Laplace approximation.")
    if measure == "freeman-tukey":
        said.append("Proportions by Miller's inverse, at the harmonic mean of n for the pooled one.")
    if model in INVERSE_VARIANCE and model != "common":
        said.append(f"Prediction interval on the {'t' if ci != 'normal' else 'normal'} distribution, as metafor.")
    if measure == "RD" and model == "mantel-haenszel":
        said.append("Variance of Sato (1989).")
    if ci.startswith("hartung-knapp") and 1 < len(s.y) < 5:
        said.append(f"With {len(s.y)} studies the Hartung-Knapp interval can be far too wide, and also too narrow.")
    return tuple(said)
