"""Covariance structures over visits in the natural parameters of SAS: value, first and second derivatives.

Letters: theta (B, r) with the groups' parameters one after another; a block is a covariance matrix that patterns point
to (one per group, or one per pattern when coordinates differ between subjects); m visits. Natural parameters are
variances and covariances where the structure is linear in them (us, cs, toep), variances and correlations for the
heterogeneous ones (csh, toeph, ar1h, adh, and diag without correlations), a variance and correlations for ar1 and ad,
a variance and a range for the spatial ones: sp_exp v exp(-d / range), sp_gau v exp(-d^2 / range^2).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

LINEAR = ("us", "cs", "toep")
HETEROGENEOUS = ("csh", "toeph", "ar1h", "adh", "diag")
HOMOGENEOUS = ("ar1", "ad", "sp_exp", "sp_gau")
#: of a model without random effects; "diag" stands beside them only
STRUCTURES = (*LINEAR, "csh", "toeph", "ar1h", "adh", *HOMOGENEOUS)
SPATIAL = ("sp_exp", "sp_gau")


@dataclass(frozen=True, slots=True)
class Structure:
    """A structure over m visits.

    groups (blocks,): the parameter group of each block; distance (blocks, m, m) of the spatial ones, else None.
    """

    name: str
    m: int
    groups: Ints
    distance: Floats | None = None

    @property
    def n_groups(self) -> int:
        return int(self.groups.max()) + 1

    @property
    def per_group(self) -> int:
        """Number of parameters of one group."""
        return len(parameter_names(self.name, [str(s) for s in range(self.m)]))

    @property
    def r(self) -> int:
        return self.per_group * self.n_groups


def parameter_names(name: str, visits: list[str]) -> list[str]:
    """Names of the natural parameters of one group."""
    m = len(visits)
    if name == "us":
        return [f"cov({visits[s]}, {visits[t]})" if s != t else f"var({visits[s]})" for s, t in _vech(m)]
    if name == "cs":
        return ["variance", "covariance"][: min(m, 2)]
    if name == "toep":
        return ["variance", *[f"cov(lag {k})" for k in range(1, m)]]
    scale = [f"var({v})" for v in visits] if name in HETEROGENEOUS else ["variance"]
    if name in SPATIAL:
        return [*scale, "range"]
    return [*scale, *_correlation_names(name, visits)]


def _correlation_names(name: str, visits: list[str]) -> list[str]:
    kind, m = name.rstrip("h") if name != "toeph" else "toep", len(visits)
    if m == 1 or name == "diag":
        return []
    if kind == "toep":
        return [f"cor(lag {k + 1})" for k in range(m - 1)]
    if kind == "ad":
        return [f"cor({visits[k]}, {visits[k + 1]})" for k in range(m - 1)]
    return ["rho"]


def _vech(m: int) -> list[tuple[int, int]]:
    return [(s, t) for s in range(m) for t in range(s + 1)]


def derivatives(structure: Structure, theta: Floats) -> tuple[Floats, Floats, Floats | None]:
    """Sigma (B, blocks, m, m), dSigma (B, r, blocks, m, m), d2Sigma (B, r, r, blocks, m, m) or None if it is zero."""
    b, g, r1 = len(theta), structure.n_groups, structure.per_group
    own = theta.reshape(b, g, r1)[:, structure.groups]
    sigma, first, second = _block(structure, own)
    hot = (structure.groups[None, :] == np.arange(g)[:, None]).astype(float)
    jac = np.einsum("gx,bxjst->bgjxst", hot, first).reshape(b, g * r1, *sigma.shape[1:])
    if second is None:
        return sigma, jac, None
    both = np.einsum("gx,gh,bxjkst->bgjhkxst", hot, np.eye(g), second, optimize=True)
    return sigma, jac, both.reshape(b, g * r1, g * r1, *sigma.shape[1:])


def sigma_of(structure: Structure, theta: Floats) -> Floats:
    """Sigma (B, blocks, m, m) alone."""
    own = theta.reshape(len(theta), structure.n_groups, structure.per_group)[:, structure.groups]
    if structure.name in LINEAR:
        return np.einsum("bxj,jst->bxst", own, _linear_basis(structure.name, structure.m), optimize=True)
    rho = own[..., structure.m :] if structure.name in HETEROGENEOUS else own[..., 1:]
    c = _correlation(structure)(rho)[0]
    if structure.name in HETEROGENEOUS:
        h = np.sqrt(np.maximum(own[..., : structure.m], 0.0))
        return h[..., :, None] * h[..., None, :] * c
    return own[..., 0, None, None] * c


def _block(structure: Structure, own: Floats) -> tuple[Floats, Floats, Floats | None]:
    """The same per block: own (B, blocks, r1) gives (B, blocks, m, m), (B, blocks, r1, m, m), (..., r1, r1, m, m)."""
    if structure.name in LINEAR:
        basis = _linear_basis(structure.name, structure.m)
        sigma = np.einsum("bxj,jst->bxst", own, basis, optimize=True)
        return sigma, np.broadcast_to(basis, (*own.shape[:2], *basis.shape)), None
    if structure.name in HETEROGENEOUS:
        return _heterogeneous(own[..., : structure.m], _correlation(structure)(own[..., structure.m :]))
    return _homogeneous(own[..., 0], _correlation(structure)(own[..., 1:]))


def _linear_basis(name: str, m: int) -> Floats:
    """dSigma / dtheta_j (r1, m, m) of the structures that are linear in their parameters."""
    lag = np.abs(np.subtract.outer(np.arange(m), np.arange(m)))
    if name == "cs":
        return np.array([lag == 0, lag > 0], dtype=float)[: 1 + (m > 1)]
    if name == "toep":
        return (lag[None] == np.arange(m)[:, None, None]).astype(float)
    basis = np.zeros((m * (m + 1) // 2, m, m))
    for j, (s, t) in enumerate(_vech(m)):
        basis[j, s, t] = basis[j, t, s] = 1.0
    return basis


Parts = tuple[Floats, Floats, Floats]


def _homogeneous(v: Floats, parts: Parts) -> tuple[Floats, Floats, Floats]:
    """Sigma = v C."""
    c, c1, c2 = parts
    k = c1.shape[-3]
    first = np.concatenate([c[..., None, :, :], v[..., None, None, None] * c1], axis=-3)
    second = np.zeros((*c.shape[:-2], k + 1, k + 1, *c.shape[-2:]))
    second[..., 0, 1:, :, :] = second[..., 1:, 0, :, :] = c1
    second[..., 1:, 1:, :, :] = v[..., None, None, None, None] * c2
    return v[..., None, None] * c, first, second


def _heterogeneous(v: Floats, parts: Parts) -> tuple[Floats, Floats, Floats]:
    """Sigma = V^1/2 C V^1/2."""
    c, c1, c2 = parts
    m, k = v.shape[-1], c1.shape[-3]
    hot = np.eye(m)
    on = (hot[:, :, None] + hot[:, None, :]) / 2  # exponent of v_a in Sigma_st
    h = np.sqrt(np.maximum(v, 0.0))
    root = h[..., :, None] * h[..., None, :]
    sigma = root * c
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = on / v[..., :, None, None]
        own = on * (on - 1) / v[..., :, None, None] ** 2
    d_rho, d2_rho = root[..., None, :, :] * c1, root[..., None, None, :, :] * c2
    first = np.concatenate([sigma[..., None, :, :] * ratio, d_rho], axis=-3)
    second = np.zeros((*c.shape[:-2], m + k, m + k, m, m))
    second[..., :m, :m, :, :] = ratio[..., :, None, :, :] * ratio[..., None, :, :, :] * sigma[..., None, None, :, :]
    second[..., np.arange(m), np.arange(m), :, :] = own * sigma[..., None, :, :]
    cross = ratio[..., :, None, :, :] * d_rho[..., None, :, :, :]
    second[..., :m, m:, :, :] = cross
    second[..., m:, :m, :, :] = np.swapaxes(cross, -4, -3)
    second[..., m:, m:, :, :] = d2_rho
    return sigma, first, second


def _correlation(structure: Structure) -> Callable[[Floats], Parts]:
    """rho (..., k) -> C (..., m, m), dC (..., k, m, m), d2C (..., k, k, m, m)."""
    name, m = structure.name, structure.m
    kind = {"csh": "cs", "toeph": "toep", "ar1h": "ar1", "adh": "ad"}.get(name, name)
    if name in SPATIAL:
        distance = structure.distance
        assert distance is not None
        return lambda rho: _spatial(name, distance, rho)
    if m == 1 or name == "diag":
        return lambda rho: _trivial(rho, m)
    return {"cs": _common, "toep": _lagged, "ar1": _power, "ad": _chain}[kind](m)


def _trivial(rho: Floats, m: int) -> Parts:
    """No correlation."""
    head = rho.shape[:-1]
    return np.broadcast_to(np.eye(m), (*head, m, m)), np.zeros((*head, 0, m, m)), np.zeros((*head, 0, 0, m, m))


def _lag(m: int) -> Ints:
    return np.abs(np.subtract.outer(np.arange(m), np.arange(m)))


def _common(m: int) -> Callable[[Floats], Parts]:
    off = (_lag(m) > 0).astype(float)
    return lambda rho: _linear_correlation(off[None], rho)


def _lagged(m: int) -> Callable[[Floats], Parts]:
    at = (_lag(m)[None] == np.arange(1, m)[:, None, None]).astype(float)
    return lambda rho: _linear_correlation(at, rho)


def _linear_correlation(basis: Floats, rho: Floats) -> Parts:
    k, m = basis.shape[0], basis.shape[1]
    c = np.eye(m) + np.einsum("...k,kst->...st", rho, basis)
    return c, np.broadcast_to(basis, (*rho.shape[:-1], *basis.shape)), np.zeros((*rho.shape[:-1], k, k, m, m))


def _power(m: int) -> Callable[[Floats], Parts]:
    lag = _lag(m)

    def parts(rho: Floats) -> Parts:
        x = rho[..., 0, None, None]
        c = x**lag
        d = np.where(lag > 0, lag * x ** np.maximum(lag - 1, 0), 0.0)
        d2 = np.where(lag > 1, lag * (lag - 1) * x ** np.maximum(lag - 2, 0), 0.0)
        return c, d[..., None, :, :], d2[..., None, None, :, :]

    return parts


def _chain(m: int) -> Callable[[Floats], Parts]:
    step = np.arange(m - 1)
    s, t = np.minimum.outer(np.arange(m), np.arange(m)), np.maximum.outer(np.arange(m), np.arange(m))
    inside = ((step[:, None, None] >= s) & (step[:, None, None] < t)).astype(float)  # rho_k lies between visits s and t

    def product(rho: Floats) -> Floats:
        return np.prod(np.where(inside > 0, rho[..., None, None], 1.0), axis=-3)

    def parts(rho: Floats) -> Parts:
        hot = np.eye(m - 1, dtype=bool)
        without_one = np.where(hot, 1.0, rho[..., None, :])
        d = inside * product(without_one)
        without_two = np.where(hot[:, None] | hot[None, :], 1.0, rho[..., None, None, :])
        d2 = inside[:, None] * inside[None, :] * product(without_two)
        d2[..., step, step, :, :] = 0.0
        return product(rho), d, d2

    return parts


def _spatial(name: str, distance: Floats, rho: Floats) -> Parts:
    """C = exp(-d / x) or exp(-d^2 / x^2) with range x."""
    x = rho[..., 0, None, None]
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        u = distance / x if name == "sp_exp" else distance**2 / x**2
        c = np.exp(-u)
        if name == "sp_exp":  # u' = -u / x, u'' = 2 u / x^2
            d, d2 = c * u / x, c * (u * u - 2 * u) / x**2
        else:  # u' = -2 u / x, u'' = 6 u / x^2
            d, d2 = c * 2 * u / x, c * (4 * u * u - 6 * u) / x**2
    return c, d[..., None, :, :], d2[..., None, None, :, :]


def start(structure: Structure, empirical: Floats, count: Floats) -> Floats:
    """Starting values (B, r) from empirical covariances (B, groups, m, m) and the number of pairs behind them.

    For spatial structures m are the slots of `distance` of the first block of each group.
    """
    variance = np.diagonal(empirical, axis1=-2, axis2=-1)
    scale = np.sqrt(variance[..., :, None] * variance[..., None, :])
    correlation = empirical / scale
    own = _START[_family(structure.name)](structure, variance, correlation, count)
    return own.reshape(len(empirical), -1)


def _family(name: str) -> str:
    return "us" if name == "us" else "spatial" if name in SPATIAL else "lagged"


def _start_us(structure: Structure, variance: Floats, correlation: Floats, count: Floats) -> Floats:
    full = _shrink(correlation) * np.sqrt(variance[..., :, None] * variance[..., None, :])
    s, t = np.array(_vech(structure.m)).T
    return full[..., s, t]


def _start_lagged(structure: Structure, variance: Floats, correlation: Floats, count: Floats) -> Floats:
    m, name = structure.m, structure.name
    weight = np.diagonal(count, axis1=-2, axis2=-1)
    common = ((variance * weight).sum(-1) / weight.sum(-1))[..., None]
    scale = variance if name in HETEROGENEOUS else common
    if m == 1:
        return scale
    full = _shrink(correlation)
    rho = _start_rho(name, full, np.maximum(count, 1e-9))
    if name in LINEAR:
        rho = rho * common
    return np.concatenate([scale, rho], axis=-1)


def _start_rho(name: str, correlation: Floats, count: Floats) -> Floats:
    m = correlation.shape[-1]
    if name in ("ad", "adh"):
        k = np.arange(m - 1)
        return np.clip(correlation[..., k, k + 1], -0.95, 0.95)
    if name in ("toep", "toeph"):
        lags = [_mean_at(correlation, count, _lag(m) == k) for k in range(1, m)]
        return _positive_lags(np.stack(lags, axis=-1))
    value = _mean_at(correlation, count, _lag(m) == 1 if name in ("ar1", "ar1h") else _lag(m) > 0)[..., None]
    low = -0.9 if name in ("ar1", "ar1h") else -0.9 / (m - 1)
    return np.clip(value, low, 0.95)


def _positive_lags(rho: Floats) -> Floats:
    """Shrink lag correlations until the Toeplitz matrix is well inside the positive definite ones."""
    m = rho.shape[-1] + 1
    for _ in range(40):
        c = np.eye(m) + np.einsum("...k,kst->...st", rho, (_lag(m)[None] == np.arange(1, m)[:, None, None]) * 1.0)
        bad = np.linalg.eigvalsh(c)[..., 0] < 0.02
        if not bad.any():
            break
        rho = np.where(bad[..., None], 0.9 * rho, rho)
    return rho


def _mean_at(correlation: Floats, count: Floats, where: NDArray[np.bool_]) -> Floats:
    weight = count * where
    return (correlation * weight).sum((-1, -2)) / weight.sum((-1, -2))


def _shrink(correlation: Floats, floor: float = 0.01) -> Floats:
    """Pull a symmetric unit-diagonal matrix towards the identity until its smallest eigenvalue is `floor`."""
    lowest = np.linalg.eigvalsh(correlation)[..., 0]
    mix = np.clip((floor - lowest) / np.maximum(1.0 - lowest, 1e-12), 0.0, 1.0)[..., None, None]
    return (1 - mix) * correlation + mix * np.eye(correlation.shape[-1])


def _start_spatial(structure: Structure, variance: Floats, correlation: Floats, count: Floats) -> Floats:
    assert structure.distance is not None
    weight = np.diagonal(count, axis1=-2, axis2=-1)
    common = (variance * weight).sum(-1) / np.maximum(weight.sum(-1), 1e-300)
    first = [int(np.flatnonzero(structure.groups == g)[0]) for g in range(structure.n_groups)]
    d = structure.distance[first]
    power = d if structure.name == "sp_exp" else d**2
    off = np.where(d > 0, np.maximum(count, 1e-9), 0.0)
    rho = np.clip((correlation * off).sum((-1, -2)) / off.sum((-1, -2)), 0.05, 0.95)
    typical = (power * off).sum((-1, -2)) / off.sum((-1, -2))
    reach = typical / -np.log(rho)
    return np.stack([common, reach if structure.name == "sp_exp" else np.sqrt(reach)], axis=-1)


_START: dict[str, Callable[[Structure, Floats, Floats, Floats], Floats]] = {
    "us": _start_us,
    "lagged": _start_lagged,
    "spatial": _start_spatial,
}


def working_curvature(structure: Structure, theta: Floats, w: Floats) -> Floats:
    """c_j = sum_ab W^psi_ab d2 theta_j / dpsi_a dpsi_b of one fit, psi the working parameters of R mmrm.

    psi: log standard deviations with the entries of a unit lower triangle (us: Sigma = D L L' D), else with linked
    correlations; log variance and the logit of the correlation at distance one for the spatial structures.
    theta (r,), w (r, r) the covariance of theta; W^psi is w carried to psi. Returns (r,).
    """
    g, r1 = structure.n_groups, structure.per_group
    out = np.zeros((g, r1))
    for i, own in enumerate(theta.reshape(g, r1)):
        part = w[i * r1 : (i + 1) * r1, i * r1 : (i + 1) * r1]
        first, contract = _working_us(structure.m, own) if structure.name == "us" else _working_simple(structure, own)
        inverse = np.linalg.inv(first)
        out[i] = contract(inverse @ part @ inverse.T)
    return out.reshape(-1)


Working = tuple[Floats, Callable[[Floats], Floats]]


def _working_us(m: int, own: Floats) -> Working:
    """dtheta / dpsi (r1, r1) and the contraction of d2theta for Sigma = C C', C = D L, L unit lower triangular."""
    sigma = np.einsum("j,jst->st", own, _linear_basis("us", m))
    c = np.linalg.cholesky(sigma)
    sd = np.diag(c)
    s, t = np.array(_vech(m)).T
    low = [(i, j) for i in range(m) for j in range(i)]
    c1 = np.zeros((m + len(low), m, m))
    c1[np.arange(m), np.arange(m)] = c
    for a, (i, j) in enumerate(low):
        c1[m + a, i, j] = sd[i]
    row = np.array([*range(m), *[i for i, _ in low]])
    d1 = c1 @ c.T
    first = (d1 + np.swapaxes(d1, 1, 2))[:, s, t].T

    def contract(w: Floats) -> Floats:
        cw = np.zeros((m, m))  # sum_ab W_ab d2C_ab: only (log sd_i, log sd_i) and (log sd_i, L_ij) are not zero
        for i in range(m):
            cw[i] += w[i, i] * c[i]
            for a in np.flatnonzero(row[m:] == i) + m:
                cw[i] += 2 * w[i, a] * c1[a, i]
        middle = np.einsum("ab,ast,bvt->sv", w, c1, c1, optimize=True)
        total = cw @ c.T
        return (total + total.T + 2 * middle)[s, t]

    return first, contract


def _working_simple(structure: Structure, own: Floats) -> Working:
    """The same where psi are log standard deviations and linked correlations (cs, toep: v times one)."""
    k = structure.m if structure.name in HETEROGENEOUS else 1
    v, rho = own[:k], own[k:]
    if structure.name in SPATIAL:
        return _working_spatial(structure.name, own)
    if structure.name in LINEAR:
        rho = rho / v[0]
    d_rho, d2_rho = _correlation_link(structure, rho)
    first = np.diag(np.r_[2 * v, d_rho * (v[0] if structure.name in LINEAR else 1.0)])
    if structure.name in LINEAR:
        first[1:, 0] = 2 * own[1:]

    def contract(w: Floats) -> Floats:
        own_curve = np.r_[4 * v, d2_rho] * np.diag(w)
        if structure.name in LINEAR:
            own_curve[1:] = v[0] * own_curve[1:] + 4 * own[1:] * w[0, 0] + 4 * v[0] * d_rho * w[0, 1:]
        return own_curve

    return first, contract


def _correlation_link(structure: Structure, rho: Floats) -> tuple[Floats, Floats]:
    """drho / dpsi and d2rho / dpsi2: a logit scaled to (-1 / (m - 1), 1) for cs and csh, else x / sqrt(1 + x^2)."""
    if structure.name in ("cs", "csh"):
        low = 1 / max(structure.m - 1, 1)
        p = (rho + low) / (1 + low)
        d = (1 + low) * p * (1 - p)
        return d, d * (1 - 2 * p)
    return (1 - rho**2) ** 1.5, -3 * rho * (1 - rho**2) ** 2


def _working_spatial(name: str, own: Floats) -> Working:
    """Logit of the correlation at distance one: rho = exp(-1 / x) or exp(-1 / x^2)."""
    power = 1.0 if name == "sp_exp" else 2.0
    v, x = own
    log_rho = -(x**-power)
    rho = np.exp(log_rho)
    # x = (-log rho)^(-1 / power); in the logit (log rho)' = 1 - rho and (log rho)'' = -rho (1 - rho)
    x1 = x / (power * -log_rho)  # dx / dlog rho
    x2 = x1 * (1 + 1 / power) / -log_rho
    first = np.diag([v, x1 * (1 - rho)])

    def contract(w: Floats) -> Floats:
        return np.array([v * w[0, 0], (x2 * (1 - rho) ** 2 - x1 * rho * (1 - rho)) * w[1, 1]])

    return first, contract
