"""Meta-regression: whether the effects of studies go along with what differs between the studies."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd
from scipy import special

from kapstats import estimates, frames, scales
from kapstats._types import FloatArray, FrameLike
from kapstats.errors import DataError, FormulaError, check_level, choose, warn
from kapstats.evidence import knapp
from kapstats.evidence.meta_analysis import CI, MODELS
from kapstats.evidence.studies import INVERSE_VARIANCE, is_ratio, read, scale_of
from kapstats.formula.design import build
from kapstats.formula.expressions import complete_rows
from kapstats.inference.intervals import with_inference
from kapstats.kernels import meta
from kapstats.kernels import meta_regression as kernel


def meta_regression(
    studies: FrameLike,
    moderators: str,
    measure: str | None = None,
    model: str = "reml",
    ci: str = "hartung-knapp",
    *,
    level: float = 0.95,
    drop00: bool | None = None,
    add: float = 0.5,
) -> estimates.Estimates:
    """How the effect of independent studies changes with characteristics of the studies.

    :math:`y_i = x_i'\\beta + u_i + e_i` with :math:`u_i \\sim N(0, \\tau^2)` and the known variances :math:`v_i` of
    :math:`e_i`; :math:`\\hat\\beta` by weights :math:`1/(v_i + \\tau^2)`. An association between studies is not an
    effect of the moderator: no study was randomised to it.

    Parameters
    ----------
    studies : one row per study, as `meta_analysis` takes them, and the columns named in `moderators`
    moderators : right side of a formula, such as ``"~ dose + route"``; text columns are factors
    measure, level, drop00, add : as in `meta_analysis`
    model : tau^2 by "reml", "dl", "ml", "pm", "eb", "sj", "he", "hs", or "common"
    ci : "hartung-knapp" (t on k - q for q coefficients), "hartung-knapp-adhoc" (never narrower), "normal"

    Returns
    -------
    Estimates
        One row per coefficient (``term``). ``.meta``: tau2, i2 (percent of the residual variation), r2 (percent of
        the tau^2 without moderators that they account for), q, q_df, q_p_value (residual heterogeneity), qm, qm_df,
        qm_p_value (all moderators together: chi-square, or F where `ci` uses t), k, k_dropped.

    Raises
    ------
    DataError
        For missing columns, or not more studies than coefficients.
    FormulaError
        For a formula with a response or a random part, or a model that needs counts.

    Agrees with
    -----------
    R metafor 3.8-1 (rma.uni with mods) to 1e-6.

    References
    ----------
    Thompson & Higgins 2002; Knapp & Hartung 2003; Viechtbauer 2010.

    Examples
    --------
    >>> trials = {"estimate": [-1.0, -2.0, -3.1, -3.9], "std_error": [0.5] * 4, "dose": [1.0, 2.0, 3.0, 4.0]}
    >>> slope = meta_regression(trials, "~ dose", model="common", ci="normal").filter(term="dose")
    >>> slope["estimate"].round(2).tolist()
    [-0.98]
    """
    model, ci = (str(text).lower() for text in (model, ci))
    model, ci = MODELS.get(model, model), CI.get(ci, ci)
    choose(model, INVERSE_VARIANCE, "model")
    choose(ci, ("hartung-knapp", "hartung-knapp-adhoc", "normal"), "ci")
    check_level(level)
    frame = frames.to_pandas(studies)
    fixed = _fixed(moderators)
    kept, missing = complete_rows(frame, [str(c) for c in frame.columns if c in re.findall(r"\w+", fixed)])
    complete = frame.iloc[kept].reset_index(drop=True)
    given, measure = read(complete, measure, drop00, add, model)
    design = build(fixed, complete.iloc[given.rows].reset_index(drop=True))
    if design.aliased.any():
        gone = [n for n, a in zip(design.names, design.aliased, strict=True) if a]
        raise DataError(f"meta_regression: the studies cannot tell {', '.join(gone)} from the other columns.")
    if len(given.y) <= len(design.names):
        raise DataError(f"meta_regression: {len(given.y)} studies cannot carry {len(design.names)} coefficients.")
    notes = [*given.notes, *(f"{n} studies left out ({name} is missing)." for name, n in missing.items() if n)]
    for note in notes:
        warn(note)
    found = kernel.regress(given.y, given.v, design.X, model)
    k, q = design.X.shape
    factor = found.q_at_tau2 / (k - q) if ci != "normal" else 1.0
    covariance = found.covariance * (max(1.0, factor) if ci.endswith("adhoc") else factor)
    if ci == "hartung-knapp":
        errors = [np.sqrt(np.diag(c)) for c in (covariance, found.covariance)]
        error, said = knapp.checked(errors[0], errors[1], "every coefficient")
        notes += [warn(text) for text in said]
        covariance = np.where(np.isnan(error).any(), np.nan, covariance)
    df = np.inf if ci == "normal" else float(k - q)
    table = with_inference(
        pd.DataFrame({"term": design.names}),
        found.coefficients, np.sqrt(np.diag(covariance)), df, level=level,
    )  # fmt: skip
    about = _heterogeneity(found, meta.pool(given.y, given.v, model).tau2, k, q) | _omnibus(
        found.coefficients, covariance, design.names, df
    )
    description = estimates.meta(
        method=f"meta-regression, {model}, {ci} interval",
        level=level,
        **(scale_of(measure) | _measures(measure, design.names)),
        title=f"Meta-regression of {measure} on {fixed}",
        sentence=f"{measure} on {fixed}, {model}, {ci} interval; {k} studies, {len(frame) - k} left out; "
        f"residual tau^2 {found.tau2:.4g}.",
        conventions=("An association between studies, not a randomised comparison.",),
        warnings=notes,
        data=frame,
        frame_kind=frames.kind(studies),
        k=k,
        k_dropped=len(frame) - k,
        tau2=found.tau2,
        **about,
    )
    return estimates.Estimates(table, description, covariance)


def _measures(measure: str, names: tuple[str, ...]) -> dict[str, Any]:
    """What the coefficients are: ratios of ratios beside the intercept, which is the ratio where moderators are 0."""
    if not is_ratio(measure) or "(Intercept)" not in names:
        return {"measure": measure if is_ratio(measure) else ""}
    words = scales.named(measure)
    return {"measure": f"ratio of {words}s", "measures": {"term": {"(Intercept)": words}}}


def _fixed(moderators: str) -> str:
    """The right side of the formula."""
    left, tilde, right = moderators.partition("~")
    fixed = (right if tilde else left).strip()
    if (tilde and left.strip()) or "|" in fixed or not fixed:
        raise FormulaError(f"moderators={moderators!r}: give the right side alone, such as '~ dose + route'.")
    return fixed


def _heterogeneity(found: kernel.Regressed, without: float, k: int, q: int) -> dict[str, Any]:
    """What is left between studies, and the share of tau^2 that the moderators account for."""
    i2 = 100 * found.tau2 / (found.tau2 + found.typical)
    r2 = 100 * max(0.0, (without - found.tau2) / without) if without > 0 else np.nan
    return {"i2": i2, "r2": r2, "q": found.q, "q_df": k - q, "q_p_value": float(special.chdtrc(k - q, found.q))}


def _omnibus(beta: FloatArray, covariance: FloatArray, names: tuple[str, ...], df: float) -> dict[str, Any]:
    """All coefficients but the intercept: chi-square, or F with `df` in the denominator."""
    tested = [i for i, name in enumerate(names) if name != "(Intercept)"]
    if not tested:
        return {"qm": np.nan, "qm_df": 0, "qm_p_value": np.nan}
    part, m = beta[tested], len(tested)
    wald = float(part @ np.linalg.solve(covariance[np.ix_(tested, tested)], part))
    if np.isinf(df):
        return {"qm": wald, "qm_df": m, "qm_p_value": float(special.chdtrc(m, wald))}
    return {"qm": wald / m, "qm_df": m, "qm_p_value": float(special.fdtrc(m, df, wald / m))}
