"""Log-likelihoods per observation with the derivatives that Laplace and quadrature need.

``l(eta, phi)``: eta the linear predictor, phi family parameters (thresholds of a cumulative model, log size of the
negative binomial). Every function returns `Terms` with derivatives in eta up to the third.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Terms:
    """l, l1, l2, l3 (N, ...) log-likelihood and derivatives in eta; p0, p1, p2 (m, N, ...): l, l1, l2 by phi."""

    l: Array
    l1: Array
    l2: Array
    l3: Array
    p0: Array
    p1: Array
    p2: Array


@dataclass(frozen=True, slots=True)
class Observations:
    """family "binomial", "poisson", "negative-binomial" or "cumulative" with its link.

    y (N,) successes, counts or category 0..K-1; size (N,) trials of the binomial; weight (N,) frequency weights.
    """

    family: str
    link: str
    y: Array
    size: Array
    weight: Array

    @property
    def n_categories(self) -> int:
        """K of the cumulative family."""
        return int(self.y.max()) + 1

    @property
    def n_phi(self) -> int:
        """Number of family parameters."""
        return {"cumulative": self.n_categories - 1, "negative-binomial": 1}.get(self.family, 0)


def evaluate(obs: Observations, eta: Array, phi: Array) -> Terms:
    """The terms at eta (N,) or (N, K): extra axes are quadrature nodes."""
    shape = (-1,) + (1,) * (eta.ndim - 1)
    y, size, weight = obs.y.reshape(shape), obs.size.reshape(shape), obs.weight.reshape(shape)
    if obs.family == "binomial":
        terms = _binomial(y, size, eta, obs.link)
    elif obs.family == "poisson":
        terms = _poisson(y, eta)
    elif obs.family == "negative-binomial":
        terms = _negative_binomial(y, eta, float(phi[0]))
    else:
        terms = _cumulative(obs.y.astype(np.int64), eta, phi, obs.link)
    if np.all(obs.weight == 1.0):
        return terms
    return Terms(*(getattr(terms, name) * weight for name in Terms.__dataclass_fields__))


def inverse_link(link: str, eta: Array) -> Array:
    """The mean (binomial: probability) at eta."""
    if link == "log":
        return np.asarray(np.exp(eta))
    return _cdf(link, eta)


def link_function(link: str, mean: Array) -> Array:
    """eta at a mean."""
    if link == "log":
        return np.asarray(np.log(mean))
    if link == "logit":
        return np.asarray(special.logit(mean))
    return np.asarray(special.ndtri(mean) if link == "probit" else np.log(-np.log1p(-mean)))


def mean_slope(link: str, eta: Array) -> Array:
    """d mean / d eta."""
    return np.asarray(np.exp(eta)) if link == "log" else _density(link, eta)[0]


def _none(eta: Array) -> Array:
    return np.empty((0, *eta.shape))


def _binomial(y: Array, size: Array, eta: Array, link: str) -> Terms:
    choose = 0.0
    if size.max(initial=0) > 1:
        choose = special.gammaln(size + 1) - special.gammaln(y + 1) - special.gammaln(size - y + 1)
    if link == "logit":
        f = special.expit(eta)
        l2 = -size * f * (1 - f)
        l = _xy(y, eta) + size * special.log_expit(-eta)
        return Terms(l + choose, y - size * f, l2, l2 * (1 - 2 * f), _none(eta), _none(eta), _none(eta))
    a, b = _log_cdf(link, eta), _log_survival(link, eta)
    l, l1, l2, l3 = (_xy(y, p) + _xy(size - y, q) for p, q in zip(a, b, strict=True))
    return Terms(l + choose, l1, l2, l3, _none(eta), _none(eta), _none(eta))


def _xy(count: Array, term: Array) -> Array:
    """count * term with 0 * inf = 0."""
    return np.where(count == 0, 0.0, count * term)


def _log_cdf(link: str, x: Array) -> tuple[Array, Array, Array, Array]:
    """log F(x) and three derivatives, of probit and cloglog."""
    if link == "probit":
        r = np.exp(-0.5 * x * x - 0.5 * np.log(2 * np.pi) - special.log_ndtr(x))
        r1 = -r * (x + r)
        return special.log_ndtr(x), r, r1, -r1 * (x + r) - r * (1 + r1)
    t = np.exp(np.minimum(x, 700.0))
    with np.errstate(over="ignore"):
        q = np.where(t < 1e-12, 1.0, t / np.expm1(t))
    q1 = q * (1 - t - q)
    return np.log(-np.expm1(-t)), q, q1, q1 * (1 - t - q) + q * (-t - q1)


def _log_survival(link: str, x: Array) -> tuple[Array, Array, Array, Array]:
    """log(1 - F(x)) and three derivatives, of probit and cloglog."""
    if link == "cloglog":
        t = -np.exp(np.minimum(x, 700.0))
        return t, t, t, t
    l, l1, l2, l3 = _log_cdf(link, -x)
    return l, -l1, l2, -l3


def _cdf(link: str, x: Array) -> Array:
    if link == "logit":
        return np.asarray(special.expit(x))
    return np.asarray(special.ndtr(x) if link == "probit" else -np.expm1(-np.exp(np.minimum(x, 700.0))))


def _density(link: str, x: Array) -> tuple[Array, Array, Array]:
    """f, f', f'' of the distribution whose cdf is the inverse link; zero at infinity."""
    finite = np.where(np.isfinite(x), x, 0.0)
    if link == "logit":
        F = special.expit(finite)
        f = F * (1 - F)
        out = f, f * (1 - 2 * F), f * (1 - 2 * F) ** 2 - 2 * f * f
    elif link == "probit":
        f = np.exp(-0.5 * finite**2) / np.sqrt(2 * np.pi)
        out = f, -finite * f, (finite**2 - 1) * f
    else:
        t = np.exp(np.minimum(finite, 700.0))
        f = t * np.exp(-t)
        out = f, f * (1 - t), f * ((1 - t) ** 2 - t)
    some = np.isfinite(x)
    return tuple(np.where(some, o, 0.0) for o in out)  # type: ignore[return-value]


def _poisson(y: Array, eta: Array) -> Terms:
    mu = np.exp(np.minimum(eta, 700.0))
    return Terms(y * eta - mu - special.gammaln(y + 1), y - mu, -mu, -mu, _none(eta), _none(eta), _none(eta))


def _negative_binomial(y: Array, eta: Array, log_size: float) -> Terms:
    """Variance mu + mu^2 / k, k = exp(log_size); the Beta function keeps large k exact."""
    k, mu = np.exp(log_size), np.exp(np.minimum(eta, 700.0))
    p, total = mu / (k + mu), k + mu
    positive = np.where(y > 0, y, 1.0)
    rising = np.where(y > 0, special.gammaln(positive) - special.betaln(positive, k), 0.0)
    l = rising - special.gammaln(y + 1) + y * (eta - np.log(total)) - k * np.log1p(mu / k)
    l1 = y - (y + k) * p
    l2 = -(y + k) * p * (1 - p)
    digamma = np.where(y > 0, special.digamma(y + k) - special.digamma(k), 0.0)
    p0 = digamma - np.log1p(mu / k) + (mu - y) / total
    p1 = p * (y - mu) / total
    p2 = p / total * ((1 - 2 * p) * (y - mu) - mu)
    return Terms(l, l1, l2, l2 * (1 - 2 * p), (k * p0)[None], (k * p1)[None], (k * p2)[None])


def _cumulative(y: npt.NDArray[np.int64], eta: Array, alpha: Array, link: str) -> Terms:
    """P(Y <= j) = F(alpha_j - eta); alpha (K - 1,) increasing."""
    edges = np.concatenate([[-np.inf], alpha, [np.inf]])
    shape = (-1,) + (1,) * (eta.ndim - 1)
    a, b = edges[y + 1].reshape(shape) - eta, edges[y].reshape(shape) - eta
    D = _interval_probability(link, a, b)
    fa, fb = _density(link, a), _density(link, b)
    d1, d2, d3 = (s * (u - v) / D for s, u, v in zip((-1, 1, -1), fa, fb, strict=True))
    l2 = d2 - d1 * d1
    m = alpha.size
    p0, p1, p2 = np.zeros((m, *eta.shape)), np.zeros((m, *eta.shape)), np.zeros((m, *eta.shape))
    for edge, f, sign in ((y + 1, fa, 1.0), (y, fb, -1.0)):
        rows = np.flatnonzero((edge >= 1) & (edge <= m))
        at = (edge[rows] - 1, rows)
        e0, e1, e2 = (sign * s * g[rows] / D[rows] for s, g in zip((1, -1, 1), f, strict=True))
        p0[at] += e0
        step = e1 - d1[rows] * e0
        p1[at] += step
        p2[at] += e2 - d2[rows] * e0 - 2 * d1[rows] * step
    return Terms(np.log(D), d1, l2, d3 - 3 * d1 * l2 - d1**3, p0, p1, p2)


def _interval_probability(link: str, a: Array, b: Array) -> Array:
    """F(a) - F(b) for a > b, from the smaller tail; at least the smallest positive number."""
    if link == "cloglog":
        lower, upper = np.exp(np.minimum(b, 700.0)), np.exp(np.minimum(a, 700.0))
        out = -np.exp(-lower) * np.expm1(lower - upper)
    else:
        turn = b > 0
        out = _cdf(link, np.where(turn, -b, a)) - _cdf(link, np.where(turn, -a, b))
    return np.maximum(out, 1e-300)
