"""A residual covariance structure beside random effects: y = X b + Z u + e, e_i ~ N(0, Sigma_i).

For a given Sigma the rows are whitened subject by subject, after which the model has independent residuals and the
ordinary elimination applies. All parameters are searched together with the exact gradient, then the structure's own are
polished by Newton steps with exact derivatives. The largest grouping factor has to be constant within the subjects of
the structure, since it is eliminated level by level; the others may change (therapists or raters between visits).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from scipy import optimize, sparse
from scipy.sparse import csgraph

from kapstats import frames
from kapstats._types import BoolArray, FloatArray, IntArray
from kapstats.errors import ConvergenceError, DataError, EstimabilityError, FormulaError, first_ids
from kapstats.formula.design import level_text
from kapstats.formula.split import DIAGONAL, SPATIAL, Covariance
from kapstats.kernels.block_arrow import Arrow, Factor, beside_first, eliminate, free_entries, summarise
from kapstats.kernels.covariance import LINEAR, Structure, derivatives, parameter_names, sigma_of
from kapstats.kernels.covariance_work import jacobian, natural, neutral, unit
from kapstats.kernels.dense_components import Component
from kapstats.kernels.dense_components import derivatives as dense_derivatives
from kapstats.kernels.random_effects_fit import RandomEffectsFit, criterion, fit, gradient_in_G, pack, unpack
from kapstats.kernels.random_effects_kr import SmallSample, VarianceDerivatives, pseudo_inverse
from kapstats.kernels.residual_blocks import gradient_in_sigma, roots, whitener
from kapstats.response.mmrm_chain import few_subjects
from kapstats.response.random_effects import ModelRows
from kapstats.response.repeated import Visits, arrange

MAX_DENSE = 20_000_000
SAME = 1e-8  # relative curvature below which the structure and the random effects describe the same covariance


@dataclass(frozen=True)
class ResidualStructure:
    """The structure of a fit: its layout over visits, natural parameters theta (r,), and derivatives for inference."""

    term: Covariance
    visits: Visits
    structure: Structure
    theta: FloatArray
    pieces: VarianceDerivatives
    free: BoolArray

    def table(self) -> pd.DataFrame:
        """Natural parameters: `parameter estimate std_error sd_cor` (standard deviation, correlation or as it is)."""
        names = parameter_names(self.structure.name, list(self.visits.labels))
        groups = self.visits.groups
        said = [f"{name} in {group}" if len(groups) > 1 else name for group in groups for name in names]
        se = np.sqrt(np.diag(pseudo_inverse(self.pieces.observed)))[-len(self.theta) :]
        sd_cor = np.concatenate([self._sd_cor(own) for own in self.theta.reshape(len(groups), -1)])
        return pd.DataFrame({"parameter": said, "estimate": self.theta, "std_error": se, "sd_cor": sd_cor})

    def _sd_cor(self, own: FloatArray) -> FloatArray:
        """Of one group's parameters (r1,): roots of variances, covariances as correlations."""
        names = parameter_names(self.structure.name, list(self.visits.labels))
        out = np.where([n.startswith("var") for n in names], np.sqrt(np.abs(own)), own)
        if self.structure.name in LINEAR:
            m = self.structure.m
            s, t = np.tril_indices(m) if self.structure.name == "us" else (np.arange(len(own)), np.zeros(len(own), int))
            variance = own[np.flatnonzero(s == t)] if self.structure.name == "us" else np.full(m, own[0])
            pair = np.sqrt(variance[s] * variance[t])
            out = np.where([n.startswith("cov") for n in names], own / pair, out)
        return np.asarray(out, dtype=float)

    def relative(self) -> FloatArray:
        """Sigma of every block over visits (blocks, m, m), divided by the first variance."""
        return np.asarray(sigma_of(self.structure, (self.theta / unit(self.structure, self.theta))[None])[0])

    def row_variances(self) -> FloatArray:
        """Relative residual variance (N,) of the rows used, weights left aside."""
        subject, visit = placed(self.visits)
        return np.asarray(self.relative()[block_of(self.visits)[subject], visit, visit])

    def variances_of(self, frame: pd.DataFrame) -> FloatArray:
        """Relative residual variance (n,) of new rows; NaN at visits or in groups that the fit did not see."""
        variance = np.diagonal(self.relative(), axis1=1, axis2=2)
        group = np.zeros(len(frame), dtype=np.int64)
        if self.term.group is not None:
            group = _codes_of(frame, self.term.group, self.visits.groups)
        if self.term.structure in SPATIAL:
            first = np.array([np.flatnonzero(self.visits.block_group == g)[0] for g in range(len(self.visits.groups))])
            return np.where(group >= 0, variance[first[group], 0], np.nan)
        visit = _codes_of(frame, self.term.visit, self.visits.labels)
        return np.where((group >= 0) & (visit >= 0), variance[group, visit], np.nan)

    def satterthwaite(self) -> SmallSample:
        """Observed information in the natural parameters; those on the boundary are left out."""
        keep = np.flatnonzero(self.free)
        scaled = self.pieces.root.T @ self.pieces.P[keep] @ self.pieces.root
        w = pseudo_inverse(2.0 * self.pieces.observed[np.ix_(keep, keep)]) * 2.0
        return SmallSample(scaled, w, self.pieces.Phi)


def _codes_of(frame: pd.DataFrame, column: str, labels: Sequence[str]) -> IntArray:
    frames.require(frame, [column])
    known = {label: i for i, label in enumerate(labels)}
    return np.array([known.get(level_text(v), -1) for v in frame[column].astype("object")], dtype=np.int64)


def placed(visits: Visits) -> tuple[IntArray, IntArray]:
    """Subject and visit (N,) of every row."""
    n = sum(at.size for at in visits.arranged.rows)
    subject, visit = np.empty(n, np.int64), np.empty(n, np.int64)
    for at, seen, who in zip(visits.arranged.rows, visits.arranged.seen, visits.arranged.subjects, strict=True):
        subject[at], visit[at] = who[:, None], np.flatnonzero(seen)[None, :]
    return subject, visit


def block_of(visits: Visits) -> IntArray:
    """Covariance block (n,) of every subject."""
    out = np.empty(len(visits.subjects), np.int64)
    for block, who in zip(visits.arranged.block, visits.arranged.subjects, strict=True):
        out[who] = block
    return out


@dataclass(frozen=True)
class StructuredRows:
    """Rows in the basis of the fit; rest (N, R): after whitening, the columns of all factors but the first."""

    X: FloatArray
    y: FloatArray
    factors: tuple[Factor, ...]
    weights: FloatArray
    rest: sparse.csr_matrix | None = None

    def summarised(self, *, compress: bool = True) -> Arrow:
        """Their statistics."""
        return summarise(self.X, self.y, self.factors, self.weights, compress=compress, rest=self.rest)


def prepare(rows: ModelRows) -> tuple[Visits, Structure]:
    """Visits of the structure, after checking that it can stand beside the random effects."""
    term = rows.formula.covariance
    assert term is not None
    known = {c: f.values for c, f in rows.design.factors.items() if f.source != "sorted"}
    order = {**known, **dict(rows.order or {})}
    if term.structure == DIAGONAL:  # every row on its own: a subject may come more than once to a level
        own = rows.used.assign(**{term.subject: np.arange(len(rows.used))})
        visits = arrange(own, term, order)
        return visits, visits.structure(DIAGONAL)
    label, changing = changes(rows, term, 0)
    if len(changing):
        raise FormulaError(
            f"({label}) changes within {term.subject} ({first_ids(changing)}); beside {term.structure}(...) the "
            f"grouping factor with most random effects has to be constant within {term.subject}: add "
            f"(1 | {term.subject}), or leave the structure out."
        )
    visits = arrange(rows.used, term, order)
    few = few_subjects(term.structure, visits.arranged, visits)
    if few:
        raise ConvergenceError(f"{term.structure}({term.visit} | {term.subject}): {few}. Use a simpler structure.")
    return visits, visits.structure(term.structure)


def changes(rows: ModelRows, term: Covariance, t: int) -> tuple[str, list[Any]]:
    """The label of grouping factor t, and the subjects of the structure within which it changes."""
    if term.structure == DIAGONAL:
        return "", []
    codes, subject = rows.random.factors[t].codes, pd.factorize(rows.used[term.subject])[0]
    first = np.zeros(subject.max() + 1, dtype=np.int64)
    first[subject[::-1]] = codes[::-1]
    label = next(r.text for r in rows.random.terms if r.factor == t)
    return label, rows.used[term.subject].iloc[np.flatnonzero(first[subject] != codes)].unique().tolist()


def whitened(rows: StructuredRows, visits: Visits, sigma: FloatArray) -> tuple[StructuredRows, float]:
    """Rows times the inverse Cholesky factor of their subject's block of `sigma` (blocks, m, m), and log|blocks|."""
    return _whitened(rows, visits, roots(visits.arranged, sigma))


def _whitened(rows: StructuredRows, visits: Visits, factors: list[FloatArray]) -> tuple[StructuredRows, float]:
    W, logdet = whitener(visits.arranged, factors)
    root = np.sqrt(rows.weights)
    first, p = rows.factors[0], rows.X.shape[1]
    out = W @ (np.column_stack([rows.X, rows.y, first.Z]) * root[:, None])
    rest = beside_first(rows.factors, root)
    turned = replace(first, Z=np.ascontiguousarray(out[:, p + 1 :]))
    others = None if rest is None else (W @ rest).tocsr()
    white = StructuredRows(out[:, :p], out[:, p], (turned, *rows.factors[1:]), np.ones(len(out)), others)
    return white, logdet - float(np.log(rows.weights).sum())


@dataclass(frozen=True)
class _Search:
    """-2 l over (theta of the random effects, working parameters of the structure) with its exact gradient."""

    rows: StructuredRows
    visits: Visits
    structure: Structure
    reml: bool

    @property
    def n_theta(self) -> int:
        return sum(len(free_entries(f.blocks)[0]) for f in self.rows.factors)

    def __call__(self, point: FloatArray) -> tuple[float, FloatArray]:
        try:
            value, slope = self._evaluate(point[: self.n_theta], point[self.n_theta :])
        except np.linalg.LinAlgError:
            return 1e300, np.zeros_like(point)
        return (value, slope) if np.isfinite(value) and np.isfinite(slope).all() else (1e300, np.zeros_like(point))

    def _evaluate(self, theta: FloatArray, work: FloatArray) -> tuple[float, FloatArray]:
        sigma, jac, _ = derivatives(self.structure, natural(self.structure, work)[None])
        factors = roots(self.visits.arranged, sigma[0])
        white, logdet = _whitened(self.rows, self.visits, factors)
        arrow = white.summarised(compress=False)
        T = unpack(arrow, theta)
        state = eliminate(arrow, T)
        if not state.rss > 0.0:
            raise np.linalg.LinAlgError
        slopes = [2.0 * dG @ t for dG, t in zip(gradient_in_G(arrow, state, self.reml), T, strict=True)]
        C = np.column_stack([*([] if white.rest is None else [white.rest.toarray()]), white.X, white.y])
        D = gradient_in_sigma(
            arrow, state, T, self.reml, self.visits.arranged, factors, white.factors[0], C, len(sigma[0])
        )
        own = np.einsum("xst,jxst->j", D, jac[0]) @ jacobian(self.structure, work)
        return criterion(arrow, state, self.reml) + logdet, np.concatenate([pack(arrow, slopes), own])

    def best(self, near: FloatArray | None) -> tuple[FloatArray, FloatArray, FloatArray]:
        """theta and working parameters of the lowest point, and the values reached from every start."""
        diagonal = np.concatenate([(np.equal(*free_entries(f.blocks))).astype(float) for f in self.rows.factors])
        starts = [diagonal * scale for scale in (1.0, 0.2)] if near is None else [near + 0.05 * diagonal]
        found = [
            optimize.minimize(
                self, np.concatenate([start, neutral(self.structure)]), jac=True, method="L-BFGS-B",
                options={"maxiter": 500, "maxfun": 1000, "ftol": 1e-13, "gtol": 1e-4, "maxcor": 30},
            )
            for start in starts
        ]  # fmt: skip
        x = min(found, key=lambda r: float(r.fun)).x
        return x[: self.n_theta], x[self.n_theta :], np.array([float(r.fun) for r in found])


def solve(
    rows: StructuredRows, visits: Visits, term: Covariance, structure: Structure, reml: bool,
    near: FloatArray | None = None,
) -> tuple[Arrow, RandomEffectsFit, ResidualStructure, float]:  # fmt: skip
    """Maximise over all parameters; statistics and optimum of the whitened model, the structure, and log|blocks|."""
    _refuse_same(rows, visits, term, structure, reml)
    theta, work, values = _Search(rows, visits, structure, reml).best(near)
    for _ in range(12):
        white, logdet = whitened(rows, visits, sigma_of(structure, natural(structure, work)[None])[0])
        arrow = white.summarised()
        found = fit(arrow, reml=reml, near=theta)
        theta = found.theta
        residual, decrement, step = _certify(rows, visits, term, structure, work, found, reml)
        if decrement < 1e-14:
            break
        work = work + step
    found = replace(found, objectives=values - logdet)
    if decrement > 1e-8 or not found.converged or found.objective > found.objectives.min() + 1e-6 * abs(values[0]):
        raise ConvergenceError(
            f"{structure.name} beside random effects: no certified optimum (Newton decrement {decrement:.1e}). "
            "Drop the structure or a random effect; both may describe the same correlation."
        )
    return arrow, found, residual, logdet


def _certify(
    rows: StructuredRows, visits: Visits, term: Covariance, structure: Structure, work: FloatArray,
    found: RandomEffectsFit, reml: bool,
) -> tuple[ResidualStructure, float, FloatArray]:  # fmt: skip
    """Derivatives in all natural parameters; Newton decrement; the step of the working parameters it implies."""
    ratios = natural(structure, work)
    theta = ratios * unit(structure, np.array([found.s2]))
    dense = dense_derivatives(components(rows, visits, structure, theta, found.T, found.s2), reml)
    k = len(dense.gradient) - len(theta)
    free = np.ones(len(dense.gradient), dtype=bool)
    free[:k] = np.repeat(~np.array(found.at_boundary), [len(free_entries(f.blocks)[0]) for f in rows.factors])
    keep = np.flatnonzero(free)
    H, g = 2 * dense.pieces.observed[np.ix_(keep, keep)], dense.gradient[keep]
    move = np.zeros(len(free))
    move[keep] = -pseudo_inverse(H) @ g
    changed = theta + move[k:]
    gap = (changed / unit(structure, changed) - ratios)[1:]
    step = np.linalg.lstsq(jacobian(structure, work)[1:], gap, rcond=None)[0]
    decrement = float(abs(g @ move[keep]))
    residual = ResidualStructure(term, visits, structure, theta, dense.pieces, free)
    return residual, decrement, np.clip(step, -0.5, 0.5)


def _refuse_same(rows: StructuredRows, visits: Visits, term: Covariance, structure: Structure, reml: bool) -> None:
    """The structure must not hold the covariance of a random effect, such as us() beside (1 | subject).

    Asked where no parameter is special: there the expected information is regular unless V itself is over-parametrised.
    """
    start = neutral(structure)
    theta = natural(structure, start + 0.3 * np.cos(1.0 + np.arange(len(start))))
    T = [np.eye(f.Z.shape[1]) for f in rows.factors]
    information = dense_derivatives(components(rows, visits, structure, theta, T, 1.0), reml).pieces.expected
    scale = np.sqrt(np.diag(information))
    if not (scale > 0).all() or np.linalg.eigvalsh(information / np.outer(scale, scale))[0] < SAME:
        raise EstimabilityError(
            f"{term.structure}({', '.join(term.coordinates)} | {term.subject}) and the random effects describe the "
            f"same covariance, so the data cannot tell them apart. Leave out the random effects of {term.subject} "
            "(the structure holds them), or choose a structure with fewer parameters such as ar1."
        )


def components(
    rows: StructuredRows, visits: Visits, structure: Structure, theta: FloatArray, T: Sequence[FloatArray], s2: float
) -> list[Component]:
    """Independent groups of rows with V and its derivatives in (entries of the G_t, theta)."""
    sigma, jac, second = (None if a is None else a[0] for a in derivatives(structure, theta[None]))
    assert sigma is not None
    assert jac is not None
    subject, visit = placed(visits)
    block = block_of(visits)[subject]
    label = _connected([subject, *[f.codes for f in rows.factors]])
    order = np.argsort(label, kind="stable")
    groups = np.split(order, np.cumsum(np.bincount(label))[:-1])
    if sum(len(g) ** 2 for g in groups) * (jac.shape[0] + 4) > MAX_DENSE * 8:
        raise DataError(
            "A residual structure beside these random effects needs dense matrices that are too large: the largest "
            f"group of connected rows has {max(len(g) for g in groups)}. Leave the structure or a random effect out."
        )
    G = [s2 * t @ t.T for t in T]
    return [_component(rows, g, subject, (block, visit), G, sigma, jac, second) for g in groups]


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
    rows: StructuredRows, at: IntArray, subject: IntArray, place: tuple[IntArray, IntArray], G: list[FloatArray],
    sigma: FloatArray, jac: FloatArray, second: FloatArray | None,
) -> Component:  # fmt: skip
    same = (subject[at][:, None] == subject[at][None, :]) / np.sqrt(np.outer(rows.weights[at], rows.weights[at]))
    block, visit = (codes[at] for codes in place)
    pick = (block[:, None], visit[:, None], visit[None, :])
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
    """Independent noise (n, rows) given the correlation of each subject's block of `relative` (blocks, m, m)."""
    out = np.empty_like(noise)
    for at, L in zip(visits.arranged.rows, roots(visits.arranged, relative), strict=True):
        out[:, at] = noise[:, at] @ L.T
    return out


def with_rows(rows: StructuredRows, keep: IntArray) -> StructuredRows:
    """Some of the rows."""
    factors = tuple(replace(f, codes=f.codes[keep], Z=f.Z[keep]) for f in rows.factors)
    rest = None if rows.rest is None else rows.rest[keep]
    return StructuredRows(rows.X[keep], rows.y[keep], factors, rows.weights[keep], rest)
