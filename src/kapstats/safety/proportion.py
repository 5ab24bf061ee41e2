"""One binomial proportion with its confidence interval."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from kapstats._types import FloatArray
from kapstats.errors import FormulaError, choose
from kapstats.estimates import Estimates
from kapstats.kernels import one_proportion as kernel
from kapstats.kernels import skewed_scores
from kapstats.safety import rows

Limits = Callable[[FloatArray, FloatArray, float], tuple[FloatArray, FloatArray]]

METHODS: dict[str, Limits] = {
    "clopper-pearson": kernel.clopper_pearson,
    "mid-p": kernel.mid_p,
    "wilson": kernel.wilson,
    "wilson-cc": kernel.wilson_cc,
    "agresti-coull": kernel.agresti_coull,
    "jeffreys": kernel.jeffreys,
    "jeffreys-edges": partial(kernel.jeffreys, edges=True),
    "scas": skewed_scores.proportion_limits,
    "likelihood-ratio": kernel.likelihood_ratio,
    "logit": partial(kernel.transformed, link="logit"),
    "probit": partial(kernel.transformed, link="probit"),
    "cloglog": partial(kernel.transformed, link="cloglog"),
    "wald": kernel.wald,
    "wald-cc": partial(kernel.wald, corrected=True),
    "blaker": lambda x, n, tail: kernel.blaker(x, n, 2 * tail),
}


def proportion(
    x: Any, n: Any, method: str = "clopper-pearson", level: float = 0.95, *, side: str = "two", data: Any = None
) -> Estimates:
    """Estimate binomial proportions x/n with confidence limits, one row out per row in.

    Parameters
    ----------
    x, n : events and subjects; scalars, arrays, columns (pandas, polars, pyarrow), or column names of `data`
    method : clopper-pearson (exact, never below the nominal coverage), mid-p, wilson, wilson-cc (Newcombe 1998),
        agresti-coull (unclipped), jeffreys (equal-tailed, edges not forced), jeffreys-edges (0 at x = 0, 1 at x = n),
        scas (score corrected for skewness), likelihood-ratio, logit, probit and cloglog (Wald on that scale, exact at
        x = 0 and x = n), wald and wald-cc (unclipped), blaker (two-sided only)
    level : confidence of the two-sided interval, or of the one-sided bound
    side : two, greater (lower bound only) or less (upper bound only)
    data : table that holds the named columns

    Returns
    -------
    Estimates with columns x, n, estimate, conf_low, conf_high. x = 0 and x = n have finite limits in every method;
    n = 0 has none (NaN, with a warning).

    Raises
    ------
    DataError
        For counts that are negative, not whole, or x > n.
    FormulaError
        For an unknown method or side.

    Agrees with
    -----------
    R 4.2.2 (closed forms and bisection to machine precision; exactci 1.4-5 for blaker, ratesci 1.0.0 for scas, binom
    for logit, probit and cloglog), 1e-9 absolute; binom's likelihood-ratio limits stop at 3e-5.

    References
    ----------
    Newcombe (1998), Statistics in Medicine 17:857. Blaker (2000), Canadian Journal of Statistics 28:783.
    Brown, Cai & DasGupta (2001), Statistical Science 16:101. Laud (2017), Pharmaceutical Statistics 16:334 (scas).

    Examples
    --------
    >>> est = proportion([0, 3], [20, 20])
    >>> est["conf_high"].round(4).tolist()
    [0.1684, 0.3789]
    """
    choose(method, METHODS, "method")
    tail = rows.check_side(side, level)
    if method == "blaker" and side != "two":
        raise FormulaError("method='blaker' has no one-sided form. Use clopper-pearson or mid-p, or side='two'.")
    (x, n), kind = rows.arrays(data, x=x, n=n)
    known = rows.check_counts(x=x, n=n)
    rows.check_within(x, n, ("x", "n"))
    low, high = (np.full(x.size, np.nan) for _ in range(2))
    low[known], high[known] = METHODS[method](x[known], n[known], tail)
    low, high = rows.one_sided(low, high, side, (0.0, 1.0))
    estimate = np.divide(x, n, out=np.full(x.size, np.nan), where=n > 0)
    return rows.result(
        {"x": x, "n": n, "estimate": estimate, "conf_low": low, "conf_high": high},
        ("x", "n"),
        title="Proportion",
        method=method,
        level=level,
        side=side,
        kind=kind,
        warnings=rows.warn_missing(known, n == 0),
    )


def zero_events(n: Any, level: float = 0.95) -> Estimates:
    """Upper bound of the risk after no event in `n` subjects: exact, 1 - (1 - level)^(1/n), beside the rule of three.

    Parameters
    ----------
    n : subjects without any event (scalar or array)
    level : one-sided confidence

    Returns
    -------
    Estimates with columns n, estimate (0), conf_high (exact) and rule_of_three = -log(1 - level)/n.

    References
    ----------
    Hanley & Lippman-Hand (1983), JAMA 249:1743.

    Examples
    --------
    >>> zero_events(100)["conf_high"].round(4).tolist()
    [0.0295]
    """
    est = proportion(np.zeros_like(np.atleast_1d(np.asarray(n, dtype=float))), n, level=level, side="less")
    size = est["n"].to_numpy(dtype=float)
    frame = est.frame[["n", "estimate", "conf_high"]].assign(
        rule_of_three=np.where(size > 0, -np.log1p(-level) / np.maximum(size, 1), np.nan)
    )
    return Estimates(frame, {**est.meta, "title": "Upper bound of the risk after zero events"})
