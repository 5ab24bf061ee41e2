"""A residual covariance structure beside random effects: y = X b + Z u + e, e_i ~ N(0, Sigma_i).

For given correlations and variance ratios the rows are whitened subject by subject, after which the model has
independent residuals and the ordinary elimination applies; the structure's parameters are found outside of it and
polished by Newton steps with exact derivatives. It needs every grouping factor to be constant within the subjects of
the structure (subjects within therapists within sites), so that whitened rows stay with one level.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy import optimize, sparse
from scipy.sparse import csgraph

from kapstats._types import BoolArray, FloatArray, IntArray
from kapstats.errors import ConvergenceError, DataError, FormulaError, first_ids
from kapstats.kernels.block_arrow import Arrow, Factor, free_entries, summarise
from kapstats.kernels.covariance import HETEROGENEOUS, Structure, derivatives, parameter_names, sigma_of
from kapstats.kernels.dense_components import Component
from kapstats.kernels.dense_components import derivatives as dense_derivatives
from kapstats.kernels.random_effects_fit import RandomEffectsFit, fit
from kapstats.kernels.random_effects_kr import SmallSample, VarianceDerivatives, pseudo_inverse
from kapstats.response.random_effects import ModelRows
from kapstats.response.repeated import Visits, arrange

OFFERED = ("ar1", "ar1h", "ad", "adh", "sp_exp", "sp_gau")
MAX_DENSE = 20_000_000


@dataclass(frozen=True)
class ResidualStructure:
    """The structure of a fit: its layout over visits, natural parameters theta (r,), and derivatives for inference."""

    visits: Visits
    structure: Structure
    theta: FloatArray
    pieces: VarianceDerivatives
    free: BoolArray

    def table(self) -> pd.DataFrame:
        """Natural parameters with standard errors."""
        names = parameter_names(self.structure.name, list(self.visits.labels))
        se = np.sqrt(np.diag(pseudo_inverse(self.pieces.observed)))[-len(self.theta) :]
        return pd.DataFrame({"parameter": names, "estimate": self.theta, "std_error": se})

    def relative(self) -> FloatArray:
        """Sigma over visits divided by its first variance."""
        return np.asarray(sigma_of(self.structure, (self.theta / _scale(self.structure, self.theta))[None])[0, 0])

    def satterthwaite(self) -> SmallSample:
        """Observed information in the natural parameters; those on the boundary are left out."""
        keep = np.flatnonzero(self.free)
        scaled = self.pieces.root.T @ self.pieces.P[keep] @ self.pieces.root
        w = pseudo_inverse(2.0 * self.pieces.observed[np.ix_(keep, keep)]) * 2.0
        return SmallSample(scaled, w, self.pieces.Phi)


def _scale(structure: Structure, theta: FloatArray) -> FloatArray:
    """Divisor (r,) that makes the first variance one: variances by it, correlations and ranges by one."""
    m = structure.m if structure.name in HETEROGENEOUS else 1
    return np.concatenate([np.full(m, theta[0]), np.ones(len(theta) - m)])


@dataclass(frozen=True)
class StructuredRows:
    """Rows before whitening, in the basis of the fit."""

    X: FloatArray
    y: FloatArray
    factors: tuple[Factor, ...]
    weights: FloatArray


def prepare(rows: ModelRows) -> tuple[Visits, Structure]:
    """Visits of the structure, after checking that it can stand beside the random effects."""
    term = rows.formula.covariance
    assert term is not None
    if term.structure not in OFFERED:
        raise FormulaError(
            f"{term.structure}(...) beside random effects is not offered; choose one of {', '.join(OFFERED)}, or fit "
            "the covariance alone with ks.mmrm."
        )
    if term.group is not None:
        raise FormulaError(f"{term.structure}(... | {term.group} / ...): a grouped structure needs ks.mmrm.")
    subject = pd.factorize(rows.used[term.subject])[0]
    for t in rows.random.terms:
        codes = rows.random.factors[t.factor].codes
        first = np.zeros(subject.max() + 1, dtype=np.int64)
        first[subject[::-1]] = codes[::-1]
        changing = np.flatnonzero(first[subject] != codes)
        if len(changing):
            who = first_ids(rows.used[term.subject].iloc[changing].tolist())
            raise FormulaError(
                f"({t.text}) changes within {term.subject} ({who}); beside {term.structure}(...) every grouping factor "
                f"has to be constant within {term.subject}."
            )
    visits = arrange(rows.used, term)
    if not visits.regular:
        raise DataError(f"{term.structure}(...): too many different coordinates beside random effects; use ks.mmrm.")
    return visits, visits.structure(term.structure)


def whitened(rows: StructuredRows, visits: Visits, sigma: FloatArray) -> tuple[StructuredRows, float]:
    """Rows times the inverse Cholesky factor of their subject's block of `sigma` (m, m), and log|blocks|."""
    M = np.column_stack([rows.X, rows.y, *(f.Z for f in rows.factors)]) * np.sqrt(rows.weights)[:, None]
    out, logdet = np.empty_like(M), -float(np.log(rows.weights).sum())
    for at, seen in zip(visits.arranged.rows, visits.arranged.seen, strict=True):
        visit = np.flatnonzero(seen)
        L = np.linalg.cholesky(sigma[np.ix_(visit, visit)])
        block = M[at].transpose(1, 0, 2).reshape(len(visit), -1)
        turned = np.linalg.solve(L, block).reshape(len(visit), len(at), -1).transpose(1, 0, 2)
        out[at] = turned
        logdet += 2 * len(at) * float(np.log(np.diag(L)).sum())
    p = rows.X.shape[1]
    factors, start = [], p + 1
    for f in rows.factors:
        factors.append(Factor(f.codes, f.n_levels, out[:, start : start + f.Z.shape[1]], f.blocks))
        start += f.Z.shape[1]
    return StructuredRows(out[:, :p], out[:, p], tuple(factors), np.ones(len(M))), logdet


def solve(
    rows: StructuredRows, visits: Visits, structure: Structure, reml: bool, near: FloatArray | None = None
) -> tuple[Arrow, RandomEffectsFit, ResidualStructure, float]:
    """Maximise over the structure's correlations and variance ratios; statistics and optimum of the whitened model."""
    last: dict[str, FloatArray | None] = {"theta": near}

    def at(work: FloatArray) -> tuple[Arrow, RandomEffectsFit, float]:
        white, logdet = whitened(rows, visits, sigma_of(structure, _natural(structure, work)[None])[0, 0])
        arrow = summarise(white.X, white.y, white.factors)
        found = fit(arrow, reml=reml, near=last["theta"])
        last["theta"] = found.theta
        return arrow, found, logdet

    def value(work: FloatArray) -> float:
        try:
            _, found, logdet = at(work)
        except np.linalg.LinAlgError:
            return 1e300
        return found.objective + logdet

    start = np.zeros(_n_work(structure))
    if structure.name in ("sp_exp", "sp_gau") and structure.distance is not None:
        apart = structure.distance[structure.distance > 0]
        start[-1] = np.log(np.median(apart) / 2)
    work = optimize.minimize(value, start, method="BFGS", options={"gtol": 1e-4}).x
    for _ in range(8):
        arrow, found, logdet = at(work)
        residual, decrement, step = _certify(rows, visits, structure, work, found, reml)
        if decrement < 1e-14:
            break
        work = work + step
    if decrement > 1e-8 or not found.converged:
        raise ConvergenceError(
            f"{structure.name} beside random effects: no certified optimum (Newton decrement {decrement:.1e}). "
            "Drop the structure or a random effect; both may describe the same correlation."
        )
    return arrow, found, residual, logdet


def _n_work(structure: Structure) -> int:
    return structure.per_group - 1


def _natural(structure: Structure, work: FloatArray) -> FloatArray:
    """Natural parameters with the first variance one: logs of variance ratios, atanh of correlations, log range."""
    m = structure.m if structure.name in HETEROGENEOUS else 1
    tail = np.exp(work[m - 1 :]) if structure.name.startswith("sp_") else np.tanh(work[m - 1 :])
    return np.concatenate([[1.0], np.exp(work[: m - 1]), tail])


def _work_slope(structure: Structure, natural: FloatArray) -> FloatArray:
    """d natural / d work for the entries behind the first variance."""
    m = structure.m if structure.name in HETEROGENEOUS else 1
    tail = natural[m:] if structure.name.startswith("sp_") else 1 - natural[m:] ** 2
    return np.concatenate([natural[1:m], tail])


def _certify(
    rows: StructuredRows, visits: Visits, structure: Structure, work: FloatArray, found: RandomEffectsFit, reml: bool
) -> tuple[ResidualStructure, float, FloatArray]:
    """Derivatives in all natural parameters; Newton decrement; the step of the working parameters it implies."""
    natural = _natural(structure, work)
    theta = natural * _scale(structure, np.concatenate([[found.s2], natural[1:]]))
    dense = dense_derivatives(components(rows, visits, structure, theta, found), reml)
    k = len(dense.gradient) - len(theta)
    free = np.ones(len(dense.gradient), dtype=bool)
    free[:k] = np.repeat(~np.array(found.at_boundary), [len(free_entries(f.blocks)[0]) for f in rows.factors])
    keep = np.flatnonzero(free)
    H, g = 2 * dense.pieces.observed[np.ix_(keep, keep)], dense.gradient[keep]
    move = np.zeros(len(free))
    move[keep] = -pseudo_inverse(H) @ g
    changed = theta + move[k:]
    ratio = (changed / _scale(structure, changed))[1:] - natural[1:]
    step = ratio / _work_slope(structure, natural)
    decrement = float(abs(g @ move[keep]))
    residual = ResidualStructure(visits, structure, theta, dense.pieces, free)
    return residual, decrement, np.clip(step, -0.5, 0.5)


def components(
    rows: StructuredRows, visits: Visits, structure: Structure, theta: FloatArray, found: RandomEffectsFit
) -> list[Component]:
    """Independent groups of rows with V and its derivatives in (entries of the G_t, theta)."""
    sigma, jac, second = (None if a is None else a[0] for a in derivatives(structure, theta[None]))
    assert sigma is not None
    assert jac is not None
    subject, visit = np.empty(len(rows.y), np.int64), np.empty(len(rows.y), np.int64)
    for at, seen, who in zip(visits.arranged.rows, visits.arranged.seen, visits.arranged.subjects, strict=True):
        subject[at], visit[at] = who[:, None], np.flatnonzero(seen)[None, :]
    label = _connected([subject, *[f.codes for f in rows.factors]])
    order = np.argsort(label, kind="stable")
    groups = np.split(order, np.cumsum(np.bincount(label))[:-1])
    if sum(len(g) ** 2 for g in groups) * (jac.shape[0] + 4) > MAX_DENSE * 8:
        raise DataError(
            "A residual structure beside these random effects needs dense matrices that are too large: the largest "
            f"group of connected rows has {max(len(g) for g in groups)}. Leave the structure or a random effect out."
        )
    G = [found.s2 * t @ t.T for t in found.T]
    return [_component(rows, g, subject, visit, G, sigma[0], jac[:, 0], None if second is None else second[:, :, 0])
            for g in groups]  # fmt: skip


def _connected(codes: list[IntArray]) -> IntArray:
    """Component of each row when rows with a level in common are linked."""
    n = len(codes[0])
    start, edges = n, []
    for code in codes:
        edges.append((np.arange(n), start + code))
        start += int(code.max()) + 1
    i, j = (np.concatenate(e) for e in zip(*edges, strict=True))
    graph = sparse.coo_matrix((np.ones(len(i)), (i, j)), shape=(start, start))
    label = csgraph.connected_components(graph, directed=False)[1][:n]
    return np.asarray(np.unique(label, return_inverse=True)[1].reshape(-1), dtype=np.int64)


def _component(
    rows: StructuredRows, at: IntArray, subject: IntArray, visit: IntArray, G: list[FloatArray],
    sigma: FloatArray, jac: FloatArray, second: FloatArray | None,
) -> Component:  # fmt: skip
    same = (subject[at][:, None] == subject[at][None, :]) / np.sqrt(np.outer(rows.weights[at], rows.weights[at]))
    pick = np.ix_(visit[at], visit[at])
    V, first = same * sigma[pick], []
    for f, g in zip(rows.factors, G, strict=True):
        linked, Z = f.codes[at][:, None] == f.codes[at][None, :], f.Z[at]
        V = V + linked * (Z @ g @ Z.T)
        for a, b in zip(*free_entries(f.blocks), strict=True):
            outer = np.outer(Z[:, a], Z[:, b])
            first.append(linked * (outer if a == b else outer + outer.T))
    k = len(first)
    first += [same * d[pick] for d in jac]
    curve = {}
    if second is not None:
        r = len(jac)
        curve = {
            (k + i, k + j): same * second[i, j][pick]
            for i in range(r) for j in range(r) if np.abs(second[i, j]).max() > 0
        }  # fmt: skip
    return Component(rows.X[at], rows.y[at], V, np.array(first), curve)


def colour(visits: Visits, relative: FloatArray, noise: FloatArray) -> FloatArray:
    """Independent noise (n, rows) given the correlation of each subject's block of `relative` (m, m)."""
    out = np.empty_like(noise)
    for at, seen in zip(visits.arranged.rows, visits.arranged.seen, strict=True):
        visit = np.flatnonzero(seen)
        L = np.linalg.cholesky(relative[np.ix_(visit, visit)])
        out[:, at] = noise[:, at] @ L.T
    return out


def with_rows(rows: StructuredRows, keep: IntArray) -> StructuredRows:
    """Some of the rows."""
    factors = tuple(replace(f, codes=f.codes[keep], Z=f.Z[keep]) for f in rows.factors)
    return StructuredRows(rows.X[keep], rows.y[keep], factors, rows.weights[keep])
