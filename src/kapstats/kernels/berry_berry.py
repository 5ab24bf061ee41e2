"""Three-level Bayesian model of adverse events by term and body system (Berry & Berry 2004), by its own Gibbs sampler.

Body system b, term j. x of n_c events in the control group, y of n_t in the treated group:

    x_bj ~ Bin(n_c, expit(g_bj)),   y_bj ~ Bin(n_t, expit(g_bj + h_bj))
    g_bj ~ N(mg_b, sg_b),           h_bj = 0 with probability pi_b, else N(mh_b, sh_b)
    mg_b ~ N(mg0, tg),  mh_b ~ N(mh0, th),  pi_b ~ Beta(alpha, beta)
    mg0, mh0 ~ N(0, 10);  sg_b, sh_b, tg, th ~ InverseGamma(3, 1);  alpha, beta ~ Exponential(0.1) above 1

These are the numbers of Berry and Berry; `Priors` changes them. Normal distributions are written with variances.
Chains run side by side as the first axis of every array. h moves between 0 and the slab by a reversible jump with a
proposal fitted to the data.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import betaln, log_expit

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Priors:
    """Hyperparameters: shape and rate of the inverse gamma of the variances, variance of the grand means, and the rates
    of the exponentials of alpha and beta. The defaults are Berry and Berry's."""

    shape: float = 3.0
    rate: float = 1.0
    variance: float = 10.0
    alpha: float = 0.1
    beta: float = 0.1


_PRIORS = Priors()


@dataclass(frozen=True, slots=True)
class Posterior:
    """Draws of h (chains, draws, terms); per term, (terms,): split R-hat and effective sample size."""

    log_odds_ratio: FloatArray
    rhat: FloatArray
    effective: FloatArray


def sample(
    x: FloatArray,
    n_c: FloatArray,
    y: FloatArray,
    n_t: FloatArray,
    group: IntArray,
    generator: np.random.Generator,
    *,
    draws: int = 3000,
    burn_in: int = 1000,
    chains: int = 4,
    priors: Priors = _PRIORS,
) -> Posterior:
    """Run the sampler: x, y (terms,) events, n_c, n_t (terms,) subjects, group (terms,) body system 0..B-1.

    Events (chains, terms) are one trial per chain, all at once; the diagnostics mean nothing then.
    """
    size = np.bincount(group).astype(float)
    data = (x, n_c, y, n_t)
    state = _start(data, group, chains, size.size, generator)
    kept = np.empty((chains, draws, group.size))
    for step in range(burn_in + draws):
        _update_terms(state, data, group, generator)
        _update_systems(state, group, size, generator, priors)
        _update_top(state, generator, priors)
        if step >= burn_in:
            kept[:, step - burn_in] = state["h"]
    rhat, effective = diagnostics(kept)
    return Posterior(kept, rhat, effective)


def _start(
    data: tuple[FloatArray, ...], group: IntArray, chains: int, systems: int, generator: np.random.Generator
) -> dict[str, FloatArray]:
    x, n_c, y, n_t = data
    control, treated = np.log((x + 0.5) / (n_c - x + 0.5)), np.log((y + 0.5) / (n_t - y + 0.5))
    jitter = generator.normal(0.0, 0.3, (2, chains, group.size))
    one = np.ones((chains, systems))
    h = np.where(generator.random((chains, group.size)) < 0.5, treated - control + jitter[1], 0.0)
    return {
        "g": control + jitter[0], "h": h, "mg": control.mean() * one, "mh": 0 * one, "sg": one.copy(), "sh": one.copy(),
        "pi": 0.5 * one, "mg0": one[:, :1] * control.mean(), "mh0": 0 * one[:, :1], "tg": one[:, :1].copy(),
        "th": one[:, :1].copy(), "alpha": 1.5 * one[:, :1], "beta": 1.5 * one[:, :1],
    }  # fmt: skip


def _binomial(k: FloatArray, n: FloatArray, eta: FloatArray) -> FloatArray:
    return k * log_expit(eta) + (n - k) * log_expit(-eta)


def _update_terms(
    s: dict[str, FloatArray], data: tuple[FloatArray, ...], group: IntArray, generator: np.random.Generator
) -> None:
    """g by random walk, (g, h) along their sum, h by random walk, and h between 0 and the slab."""
    x, n_c, y, n_t = data
    mg, sg, mh, sh, pi = (s[name][:, group] for name in ("mg", "sg", "mh", "sh", "pi"))
    shape = s["g"].shape

    def posterior(g: FloatArray, h: FloatArray) -> FloatArray:
        slab = np.where(h == 0, 0.0, -((h - mh) ** 2) / (2 * sh))
        return _binomial(x, n_c, g) + _binomial(y, n_t, g + h) - (g - mg) ** 2 / (2 * sg) + slab

    def accept(new_g: FloatArray, new_h: FloatArray) -> None:
        gain = posterior(new_g, new_h) - posterior(s["g"], s["h"])
        yes = np.log(generator.random(shape)) < gain
        s["g"], s["h"] = np.where(yes, new_g, s["g"]), np.where(yes, new_h, s["h"])

    step_c = 2.0 / np.sqrt(np.minimum(x, n_c - x) + np.minimum(y, n_t - y) + 1)
    accept(s["g"] + step_c * generator.normal(size=shape), s["h"])
    move = 2.0 / np.sqrt(np.minimum(x, n_c - x) + 1) * generator.normal(size=shape)
    in_slab = s["h"] != 0
    accept(s["g"] + move, np.where(in_slab, s["h"] - move, s["h"]))
    step_t = 2.0 / np.sqrt(np.minimum(y, n_t - y) + 1) * generator.normal(size=shape)
    accept(s["g"], np.where(in_slab, s["h"] + step_t, s["h"]))
    s["h"] = _jump(s["h"], s["g"], y, n_t, mh, sh, pi, generator)


def _jump(
    h: FloatArray,
    g: FloatArray,
    y: FloatArray,
    n_t: FloatArray,
    mh: FloatArray,
    sh: FloatArray,
    pi: FloatArray,
    generator: np.random.Generator,
) -> FloatArray:
    """Reversible jump between h = 0 and a slab value drawn from a normal approximation of its conditional."""
    data_variance = 1 / (y + 0.5) + 1 / (n_t - y + 0.5)
    data_mean = np.log((y + 0.5) / (n_t - y + 0.5)) - g
    variance = 1 / (1 / sh + 1 / data_variance)
    mean = variance * (mh / sh + data_mean / data_variance)
    out = h == 0
    value = np.where(out, mean + np.sqrt(variance) * generator.normal(size=h.shape), h)
    slab = -((value - mh) ** 2) / (2 * sh) - np.log(sh) / 2
    proposal = -((value - mean) ** 2) / (2 * variance) - np.log(variance) / 2
    enter = _binomial(y, n_t, g + value) - _binomial(y, n_t, g) + slab - proposal + np.log1p(-pi) - np.log(pi)
    log_u = np.log(generator.random(h.shape))
    return np.where(out, np.where(log_u < enter, value, 0.0), np.where(log_u < -enter, 0.0, h))


def _update_systems(
    s: dict[str, FloatArray],
    group: IntArray,
    size: FloatArray,
    generator: np.random.Generator,
    priors: Priors = _PRIORS,
) -> None:
    """Conjugate draws of the means, variances and spike probabilities of the body systems."""
    in_slab = (s["h"] != 0).astype(float)
    for value, weight, mean, variance, top, spread in (
        ("g", np.ones_like(in_slab), "mg", "sg", "mg0", "tg"),
        ("h", in_slab, "mh", "sh", "mh0", "th"),
    ):
        count = _sum(weight, group, size.size)
        total = _sum(weight * s[value], group, size.size)
        precision = count / s[variance] + 1 / s[spread]
        centre = (total / s[variance] + s[top] / s[spread]) / precision
        s[mean] = centre + generator.normal(size=centre.shape) / np.sqrt(precision)
        squares = _sum(weight * (s[value] - s[mean][:, group]) ** 2, group, size.size)
        s[variance] = (priors.rate + squares / 2) / generator.gamma(priors.shape + count / 2)
    count = _sum(in_slab, group, size.size)
    pi = generator.beta(s["alpha"] + size - count, s["beta"] + count)
    s["pi"] = np.clip(pi, 1e-12, 1 - 1e-12)


def _sum(values: FloatArray, group: IntArray, systems: int) -> FloatArray:
    member = (group[:, None] == np.arange(systems)).astype(float)
    return values @ member


def _update_top(s: dict[str, FloatArray], generator: np.random.Generator, priors: Priors = _PRIORS) -> None:
    """Grand means and variances (conjugate); alpha and beta by random walk on the log scale."""
    systems = s["mg"].shape[1]
    for mean, top, spread in (("mg", "mg0", "tg"), ("mh", "mh0", "th")):
        precision = systems / s[spread] + 1 / priors.variance
        centre = s[mean].sum(1, keepdims=True) / s[spread] / precision
        s[top] = centre + generator.normal(size=centre.shape) / np.sqrt(precision)
        squares = ((s[mean] - s[top]) ** 2).sum(1, keepdims=True)
        s[spread] = (priors.rate + squares / 2) / generator.gamma(priors.shape + systems / 2, size=squares.shape)
    for name, other, share, fall in (
        ("alpha", "beta", s["pi"], priors.alpha),
        ("beta", "alpha", 1 - s["pi"], priors.beta),
    ):
        new = s[name] * np.exp(0.6 * generator.normal(size=s[name].shape))

        def density(a: FloatArray, other: str = other, share: FloatArray = share, fall: float = fall) -> FloatArray:
            likelihood = ((a - 1) * np.log(share) - betaln(a, s[other])).sum(1, keepdims=True)
            return likelihood - fall * a + np.log(a)

        yes = (new > 1) & (np.log(generator.random(new.shape)) < density(new) - density(s[name]))
        s[name] = np.where(yes, new, s[name])


def diagnostics(draws: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Split R-hat and effective sample size (initial monotone sequence) of (chains, draws, terms)."""
    _, length, terms = draws.shape
    half = length // 2
    parts = np.concatenate([draws[:, :half], draws[:, half : 2 * half]])
    within = parts.var(axis=1, ddof=1).mean(axis=0)
    between = half * parts.mean(axis=1).var(axis=0, ddof=1)
    total = (half - 1) / half * within + between / half
    rhat = np.sqrt(np.divide(total, within, out=np.ones(terms), where=within > 0))
    return rhat, np.array([_effective(parts[:, :, t], within[t], total[t]) for t in range(terms)])


def _effective(parts: FloatArray, within: float, total: float) -> float:
    m, n = parts.shape
    if total <= 0:
        return float(m * n)
    centred = parts - parts.mean(axis=1, keepdims=True)
    width = 1 << (2 * n - 1).bit_length()
    spectrum = np.abs(np.fft.rfft(centred, width, axis=1)) ** 2
    covariance = np.fft.irfft(spectrum, width, axis=1)[:, :n].mean(axis=0) / n
    rho = 1 - (within - covariance) / total
    pairs = rho[: n - n % 2].reshape(-1, 2).sum(axis=1)
    stop = int(np.argmax(pairs < 0)) if (pairs < 0).any() else pairs.size
    tail = np.minimum.accumulate(pairs[:stop]).sum() if stop else 0.5
    return float(m * n / max(2 * tail - 1, 1 / np.log10(m * n)))
