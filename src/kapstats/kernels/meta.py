"""Meta-analysis of k independent effects: sizes from counts, between-study variance, pooling.

Symbols: y (k,) effects, v (k,) sampling variances, t = tau^2, w = 1 / (v + t), W = sum w, mu = sum w y / W,
P = diag(w) - w w' / W (the projection that removes the mean).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import optimize, special

from kapstats._types import FloatArray


@dataclass(frozen=True, slots=True)
class Pooled:
    """mu and its standard error, tau^2 with its, Q with k - 1 df, I^2 (percent), H^2; weights (k,) in percent."""

    estimate: float
    std_error: float
    tau2: float
    se_tau2: float
    q: float
    i2: float
    h2: float
    weights: FloatArray


def two_by_two(
    a: FloatArray, n1: FloatArray, c: FloatArray, n2: FloatArray, measure: str, add: float = 0.5
) -> tuple[FloatArray, FloatArray]:
    """Effects and variances of k 2 x 2 tables (a of n1, c of n2), each (k,).

    `add` goes into all four cells of a table with a zero cell; the arcsine difference ("AS") needs none.
    """
    cells = np.stack([a, n1 - a, c, n2 - c]).astype(float)
    if measure != "AS":
        cells = cells + np.where((cells == 0).any(axis=0), add, 0.0)
    a, b, c, d = cells
    n1, n2 = a + b, c + d
    p1, p2 = a / n1, c / n2
    if measure == "OR":
        return np.log(a * d / (b * c)), 1 / a + 1 / b + 1 / c + 1 / d
    if measure == "RR":
        return np.log(p1 / p2), 1 / a - 1 / n1 + 1 / c - 1 / n2
    if measure == "RD":
        return p1 - p2, p1 * (1 - p1) / n1 + p2 * (1 - p2) / n2
    return np.arcsin(np.sqrt(p1)) - np.arcsin(np.sqrt(p2)), 1 / (4 * n1) + 1 / (4 * n2)


def one_proportion(x: FloatArray, n: FloatArray, measure: str, add: float = 0.5) -> tuple[FloatArray, FloatArray]:
    """Effects and variances of k proportions x of n: raw, log, logit, arcsine, freeman-tukey (double arcsine)."""
    x, n = x.astype(float), n.astype(float)
    if measure == "freeman-tukey":
        return (np.arcsin(np.sqrt(x / (n + 1))) + np.arcsin(np.sqrt((x + 1) / (n + 1)))) / 2, 1 / (4 * n + 2)
    if measure == "arcsine":
        return np.arcsin(np.sqrt(x / n)), 1 / (4 * n)
    extra = np.where((x == 0) | (x == n), add, 0.0)
    x, n = x + extra, n + 2 * extra
    p = x / n
    if measure == "raw":
        return p, p * (1 - p) / n
    if measure == "log":
        return np.log(p), 1 / x - 1 / n
    return np.log(x / (n - x)), 1 / x + 1 / (n - x)


def as_proportion(y: FloatArray, n: FloatArray, measure: str) -> FloatArray:
    """Proportions from effects of `one_proportion`; outside their range 0 or 1; n as Miller (1978)."""
    if measure == "raw":
        return y
    if measure == "log":
        return np.asarray(np.exp(y))
    if measure == "logit":
        return np.asarray(special.expit(y))
    if measure == "arcsine":
        return np.asarray(np.sin(np.clip(y, 0.0, np.pi / 2)) ** 2)
    ends = [one_proportion(x, n, measure)[0] for x in (np.zeros_like(n), n)]
    inside = np.clip(y, *ends)
    s = np.sin(2 * inside)
    root = np.sqrt(np.maximum(0.0, 1 - (s + (s - 1 / s) / n) ** 2))
    return np.asarray(np.clip((1 - np.sign(np.cos(2 * inside)) * root) / 2, 0.0, 1.0))


def standardised_difference(
    mean1: FloatArray, sd1: FloatArray, n1: FloatArray, mean2: FloatArray, sd2: FloatArray, n2: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Hedges' g with the exact small-sample factor, and its large-sample variance 1/n1 + 1/n2 + g^2 / (2 (n1 + n2))."""
    m = n1 + n2 - 2
    pooled = np.sqrt(((n1 - 1) * sd1**2 + (n2 - 1) * sd2**2) / m)
    factor = np.exp(special.gammaln(m / 2) - special.gammaln((m - 1) / 2)) / np.sqrt(m / 2)
    g = factor * (mean1 - mean2) / pooled
    return g, 1 / n1 + 1 / n2 + g**2 / (2 * (n1 + n2))


def q_statistic(y: FloatArray, v: FloatArray, t: float = 0.0) -> float:
    """sum w (y - mu)^2."""
    w = 1 / (v + t)
    return float(w @ (y - w @ y / w.sum()) ** 2)


def _projection(w: FloatArray) -> FloatArray:
    return np.diag(w) - np.outer(w, w) / w.sum()


def tau2_dl(y: FloatArray, v: FloatArray) -> float:
    """DerSimonian & Laird (1986)."""
    w = 1 / v
    return max(0.0, (q_statistic(y, v) - (len(y) - 1)) / (w.sum() - w @ w / w.sum()))


def tau2_he(y: FloatArray, v: FloatArray) -> float:
    """Hedges & Olkin: the unweighted variance minus the mean sampling variance."""
    return max(0.0, float(y.var(ddof=1) - v.mean()))


def tau2_hs(y: FloatArray, v: FloatArray) -> float:
    """Hunter & Schmidt."""
    return max(0.0, (q_statistic(y, v) - len(y)) / (1 / v).sum())


def tau2_sj(y: FloatArray, v: FloatArray) -> float:
    """Sidik & Jonkman (2005), started from the unweighted variance."""
    start = float(y.var())
    return start * q_statistic(y, v, start) / (len(y) - 1) if start > 0 else 0.0


def tau2_pm(y: FloatArray, v: FloatArray) -> float:
    """Paule & Mandel (1982), which is also the empirical-Bayes estimate: Q(t) = k - 1."""
    return q_profile_root(y, v, float(len(y) - 1))


def q_profile_root(y: FloatArray, v: FloatArray, target: float) -> float:
    """The t >= 0 where Q(t) = target (Q falls in t); 0 when Q(0) is already below."""
    if q_statistic(y, v) <= target:
        return 0.0
    high = float(y.var(ddof=1)) + v.max()
    while q_statistic(y, v, high) > target:
        high *= 2
    return float(optimize.brentq(lambda t: q_statistic(y, v, t) - target, 0.0, high, xtol=1e-15, rtol=1e-14))


def _score(y: FloatArray, v: FloatArray, t: float, restricted: bool) -> float:
    """Derivative of the (restricted) log-likelihood in t, times 2."""
    w = 1 / (v + t)
    residual = y - w @ y / w.sum()
    lost = (w @ w) / w.sum() if restricted else 0.0
    return float((w**2) @ residual**2 - w.sum() + lost)


def _loglik(y: FloatArray, v: FloatArray, t: float, restricted: bool) -> float:
    w = 1 / (v + t)
    penalty = np.log(w.sum()) if restricted else 0.0
    return float(-0.5 * (-np.log(w).sum() + q_statistic(y, v, t) + penalty))


def tau2_likelihood(y: FloatArray, v: FloatArray, restricted: bool) -> float:
    """The (restricted) maximum-likelihood t >= 0: every root of the score on a fine grid, the best likelihood wins."""
    top = 10 * (float(y.var(ddof=1)) + v.max())
    grid = np.concatenate([[0.0], np.geomspace(1e-8 * v.min(), top, 200)])
    score = np.array([_score(y, v, t, restricted) for t in grid])
    falls = np.flatnonzero((score[:-1] > 0) & (score[1:] <= 0))
    roots = [
        float(optimize.brentq(lambda t: _score(y, v, t, restricted), grid[i], grid[i + 1], xtol=1e-15, rtol=1e-13))
        for i in falls
    ]
    return max([0.0, *roots], key=lambda t: _loglik(y, v, t, restricted))


TAU2: dict[str, Callable[[FloatArray, FloatArray], float]] = {
    "common": lambda y, v: 0.0,
    "dl": tau2_dl,
    "he": tau2_he,
    "hs": tau2_hs,
    "sj": tau2_sj,
    "pm": tau2_pm,
    "eb": tau2_pm,
    "ml": lambda y, v: tau2_likelihood(y, v, restricted=False),
    "reml": lambda y, v: tau2_likelihood(y, v, restricted=True),
}


def se_tau2(y: FloatArray, v: FloatArray, t: float, model: str) -> float:
    """Asymptotic standard error of tau^2 under `model`."""
    k, w = len(y), 1 / (v + t)
    if model == "ml":
        return float(np.sqrt(2 / (w @ w)))
    if model == "reml":
        p = _projection(w)
        return float(np.sqrt(2 / (p * p).sum()))
    if model in ("pm", "eb"):
        return float(np.sqrt(2 * k**2 / (k - 1)) / w.sum())
    if model == "common":
        return np.nan
    base = {"dl": 1 / v, "hs": 1 / v, "he": np.ones(k), "sj": 1 / (v + y.var())}[model]
    p = _projection(base)
    spread = p @ np.diag(v + t)  # Var(y'Py) = 2 tr(P V P V)
    scale = {"dl": np.trace(p), "hs": base.sum(), "he": k - 1.0, "sj": (k - 1) / y.var()}[model]
    return float(np.sqrt(2 * (spread * spread.T).sum()) / scale)


def pool(y: FloatArray, v: FloatArray, model: str) -> Pooled:
    """Inverse-variance pooling under a common or random effect (Wald standard error 1 / sqrt W)."""
    k = len(y)
    t = TAU2[model](y, v) if k > 1 else 0.0
    w = 1 / (v + t)
    q = q_statistic(y, v)
    i2, h2 = _heterogeneity(v, t, q, model)
    return Pooled(
        estimate=float(w @ y / w.sum()),
        std_error=float(1 / np.sqrt(w.sum())),
        tau2=t,
        se_tau2=se_tau2(y, v, t, model) if k > 1 else np.nan,
        q=q,
        i2=i2,
        h2=h2,
        weights=100 * w / w.sum(),
    )


def _heterogeneity(v: FloatArray, t: float, q: float, model: str) -> tuple[float, float]:
    """I^2 and H^2: from Q under a common effect, from tau^2 and the typical sampling variance otherwise."""
    k = len(v)
    if k == 1:
        return 0.0, 1.0
    if model == "common":
        return excess_share(q, k)
    typical = typical_variance(v)
    return 100 * t / (t + typical), 1 + t / typical


def typical_variance(v: FloatArray) -> float:
    """The sampling variance of a typical study (Higgins & Thompson 2002)."""
    w = 1 / v
    return float((len(v) - 1) / (w.sum() - w @ w / w.sum()))


def excess_share(q: float, k: int) -> tuple[float, float]:
    """I^2 (percent) and H^2 from Q with k - 1 df; 0 and 1 for one study."""
    if k < 2:
        return 0.0, 1.0
    return max(0.0, 100 * (q - (k - 1)) / q) if q > 0 else 0.0, q / (k - 1)


def hartung_knapp(y: FloatArray, v: FloatArray, t: float, guard: bool) -> float:
    """Standard error of Hartung & Knapp (2001) and Sidik & Jonkman (2002); `guard`: never below the Wald one."""
    w = 1 / (v + t)
    factor = q_statistic(y, v, t) / (len(y) - 1)
    return float(np.sqrt((max(1.0, factor) if guard else factor) / w.sum()))


def mantel_haenszel(a: FloatArray, n1: FloatArray, c: FloatArray, n2: FloatArray, measure: str) -> tuple[float, float]:
    """Mantel-Haenszel log OR (Robins, Breslow & Greenland 1986), log RR (Greenland & Robins 1985) or RD (Sato 1989)."""
    b, d, n = n1 - a, n2 - c, n1 + n2
    if measure == "OR":
        r, s = a * d / n, b * c / n
        p, q = (a + d) / n, (b + c) / n
        big_r, big_s = r.sum(), s.sum()
        variance = (p @ r) / (2 * big_r**2) + (p @ s + q @ r) / (2 * big_r * big_s) + (q @ s) / (2 * big_s**2)
        return float(np.log(big_r / big_s)), float(np.sqrt(variance))
    if measure == "RR":
        r, s = a * n2 / n, c * n1 / n
        variance = ((n1 * n2 * (a + c) / n - a * c) / n).sum() / (r.sum() * s.sum())
        return float(np.log(r.sum() / s.sum())), float(np.sqrt(variance))
    weight = n1 * n2 / n
    rd = float((weight * (a / n1 - c / n2)).sum() / weight.sum())
    first = rd * (c * (n1 / n) ** 2 - a * (n2 / n) ** 2 + (n1 / n) * (n2 / n) * (n2 - n1) / 2).sum()
    second = (a * (n2 - c) / n + c * (n1 - a) / n).sum() / 2
    return rd, float(np.sqrt((first + second) / weight.sum() ** 2))


def peto(a: FloatArray, n1: FloatArray, c: FloatArray, n2: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Observed minus expected events of arm 1 and their hypergeometric variances, (k,) each (Yusuf et al. 1985)."""
    n, m = n1 + n2, a + c
    return a - n1 * m / n, n1 * n2 * m * (n - m) / (n**2 * (n - 1))
