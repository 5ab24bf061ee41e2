"""Cox partial likelihood on nested risk sets: Breslow and Efron ties, and a Newton method any penalty can use.

Letters as in Therneau and Grambsch (2000): r_i = w_i exp(x_i'b), S0, S1, S2 sums of r, r x, r xx' over a risk set, D0
and D1 the same over the tied events. Each event group contributes sum_l m / d_l, d_l = S0 - f_l D0, f_l = l/d (Efron)
or 0 (Breslow), m the mean weight of its events. With a = sum m/d_l and b = sum m f_l/d_l, A_i the sum of a over the
risk sets of row i, B_i = b at its own event, the score is X'(w event - r (A - event B)), and the second-moment part of
the information is the one Gram matrix X' diag(r (A - event B)) X: no n x p x p arrays.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from kapstats.kernels.risk_sets import RiskSets

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

#: Newton decrement below which a maximum is certified
CONVERGED = 1e-18
#: and the one that is accepted when rounding stops further progress
ACCEPTED = 1e-9
#: a step of this many column ranges at a likelihood this flat is on its way to infinity
RUNAWAY_STEP, RUNAWAY_DECREMENT = 0.05, 1e-5
#: share of the information at the start that is left where the likelihood has become flat
VANISHED = 1e-7
#: floor of the scale of a column
TINY = float(np.finfo(float).tiny)


@dataclass(frozen=True, slots=True)
class CoxData:
    """Sorted rows of a Cox model.

    sets : risk sets over the event times; X (n, p) centred, Fortran order; center (p,); w, offset (n,) or None
    group, f (E,) grid point and tie fraction of each event; deaths, mean_weight (K,) events and their mean weight
    x_sum (p,) weighted sum of x over the events; span (p,) range of each column; efron only where there are ties
    """

    sets: RiskSets
    X: FloatArray
    center: FloatArray
    w: FloatArray | None
    offset: FloatArray | None
    group: IntArray
    f: FloatArray
    deaths: FloatArray
    mean_weight: FloatArray
    x_sum: FloatArray
    span: FloatArray
    efron: bool


@dataclass(frozen=True, slots=True)
class Hazard:
    """Sums per grid point (K,): a, b and aa, ab, bb (sums of m/d^2, m f/d^2, m f^2/d^2), and per row r (n,)."""

    r: FloatArray
    a: FloatArray
    b: FloatArray
    aa: FloatArray
    ab: FloatArray
    bb: FloatArray
    log_sum: float


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Log-likelihood, score (p,) and information (p, p) at one b."""

    loglik: float
    score: FloatArray
    information: FloatArray


@dataclass(frozen=True, slots=True)
class Maximum:
    """Where Newton stopped: b (p,), the evaluation there, iterations, decrement, whether it is certified,
    and the columns (p,) that run to infinity."""

    b: FloatArray
    at: Evaluation
    iterations: int
    decrement: float
    converged: bool
    infinite: BoolArray
    history: tuple[float, ...] = ()


def cox_data(
    sets: RiskSets, X: FloatArray, w: FloatArray | None = None, offset: FloatArray | None = None, efron: bool = True
) -> CoxData:
    """Sort and centre X (n, p), w and offset (n,), given in input order, along the risk sets."""
    n, p = X.shape
    center = X.mean(axis=0) if w is None else w @ X / w.sum()
    sorted_X = np.empty((n, p), order="F")
    for j in range(p):
        np.subtract(X[:, j][sets.order], center[j], out=sorted_X[:, j])
    w = None if w is None else w[sets.order]
    if offset is not None:
        offset = offset[sets.order]
        offset = offset - offset.mean()
    events = np.flatnonzero(sets.event)
    group = sets.last[events] - 1
    deaths = np.bincount(group, minlength=sets.size).astype(float)
    rank = np.arange(len(events)) - np.searchsorted(group, group)
    event_w = np.ones(len(events)) if w is None else w[events]
    mean_weight = np.bincount(group, event_w, sets.size) / np.maximum(deaths, 1.0)
    efron = efron and bool(deaths.max(initial=0.0) > 1.0)
    f = rank / deaths[group] if efron else np.zeros(len(events))
    span = np.ptp(sorted_X, axis=0) if n else np.zeros(p)
    return CoxData(
        sets, sorted_X, center, w, offset, group, f, deaths, mean_weight, event_w @ sorted_X[events], span, efron
    )


def relative_risk(data: CoxData, b: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Linear predictor (n,) and r = w exp(lp) (n,)."""
    lp = data.X @ b if data.X.shape[1] else np.zeros(len(data.X))
    if data.offset is not None:
        lp = lp + data.offset
    r = np.exp(lp)
    return lp, r if data.w is None else r * data.w


def hazard(data: CoxData, r: FloatArray) -> Hazard:
    """Denominators of every event, folded to sums per event group."""
    sets = data.sets
    S0 = sets.at_risk(r)
    if not data.efron:
        m = data.mean_weight * data.deaths
        a = m / S0
        zero = np.zeros(len(a))
        return Hazard(r, a, zero, a / S0, zero, zero, float(m @ np.log(S0)))
    D0 = np.bincount(data.group, r[sets.event], sets.size)
    denominator = S0[data.group] - data.f * D0[data.group]
    m = data.mean_weight[data.group]
    terms = [m / denominator]
    terms += [terms[0] * data.f, terms[0] / denominator]
    terms += [terms[2] * data.f, terms[2] * data.f**2]
    a, b, aa, ab, bb = (np.bincount(data.group, t, sets.size).astype(float, copy=False) for t in terms)
    return Hazard(r, a, b, aa, ab, bb, float(m @ np.log(denominator)))


def exposure(data: CoxData, h: Hazard, weight: FloatArray | None = None) -> FloatArray:
    """r (A - event B) per sorted row: the expected number of events; `weight` (K,) multiplies each group."""
    a, b = (h.a, h.b) if weight is None else (h.a * weight, h.b * weight)
    expected = data.sets.over_follow_up(a)
    if data.efron:
        expected = expected.copy()
        expected[data.sets.event] -= b[data.group]
    return h.r * expected


def first_moments(data: CoxData, r: FloatArray) -> tuple[FloatArray, FloatArray]:
    """S1 and D1, (K, p): sums of r x over risk sets and over tied events."""
    p = data.X.shape[1]
    S1, D1 = np.empty((data.sets.size, p)), np.zeros((data.sets.size, p))
    for j in range(p):
        rx = r * data.X[:, j]
        S1[:, j] = data.sets.at_risk(rx)
        if data.efron:
            D1[:, j] = np.bincount(data.group, rx[data.sets.event], data.sets.size)
    return S1, D1


def information(
    data: CoxData, h: Hazard, weight: FloatArray | None = None, expected: FloatArray | None = None
) -> FloatArray:
    """Information matrix (p, p); `weight` (K,) multiplies each event group, `expected` (n,) is exposure if known."""
    expected = exposure(data, h, weight) if expected is None else expected
    S1, D1 = first_moments(data, h.r)
    aa, ab, bb = (t if weight is None else t * weight for t in (h.aa, h.ab, h.bb))
    total = gram(data.X, expected) - (S1 * aa[:, None]).T @ S1
    if data.efron and np.any(bb):
        cross = (S1 * ab[:, None]).T @ D1
        total = total + cross + cross.T - (D1 * bb[:, None]).T @ D1
    return total


def gram(X: FloatArray, v: FloatArray, block: int = 8192) -> FloatArray:
    """X' diag(v) X in row blocks that stay in cache."""
    total = np.zeros((X.shape[1], X.shape[1]))
    for low in range(0, len(X), block):
        part = X[low : low + block]
        total += (part * v[low : low + block, None]).T @ part
    return total


def evaluate(data: CoxData, b: FloatArray) -> Evaluation:
    """Log partial likelihood, score and information at b."""
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        lp, r = relative_risk(data, b)
        h = hazard(data, r)
    event_lp = lp[data.sets.event]
    loglik = float(event_lp.sum() if data.w is None else event_lp @ data.w[data.sets.event]) - h.log_sum
    if not np.isfinite(loglik):
        p = len(b)
        return Evaluation(-np.inf, np.full(p, np.nan), np.full((p, p), np.nan))
    expected = exposure(data, h)
    return Evaluation(loglik, data.x_sum - data.X.T @ expected, information(data, h, expected=expected))


def thin(data: CoxData, step: int) -> CoxData:
    """Every `step`-th sorted row as a model of its own: a cheap start for Newton."""
    from kapstats.kernels.risk_sets import risk_sets

    rows = np.arange(0, len(data.X), step)
    last, event = data.sets.last[rows], data.sets.event[rows]
    entry = data.sets.first[rows].astype(float) if data.sets.delayed else None
    strata = data.sets.stratum[np.maximum(last - 1, 0)] if len(data.sets.start) > 2 else None
    sets = risk_sets(last.astype(float), event, entry, strata, len(data.sets.start) - 1)
    return cox_data(sets, data.X[rows], _rows(data.w, rows), _rows(data.offset, rows), data.efron)


def _rows(values: FloatArray | None, rows: IntArray) -> FloatArray | None:
    return None if values is None else values[rows]


def maximise(
    evaluation: Callable[[FloatArray], Evaluation],
    start: FloatArray,
    *,
    free: BoolArray | None = None,
    span: FloatArray | None = None,
    limit: int = 60,
) -> Maximum:
    """Newton-Raphson with step halving over the `free` coordinates.

    Certified when the decrement score' information^-1 score is below CONVERGED. A coordinate whose step stays long (in
    units of its column's `span`) while the decrement vanishes is reported as infinite: the likelihood is monotone.
    """
    b = start.astype(float).copy()
    free = np.ones(len(b), bool) if free is None else free
    at = evaluation(b)
    infinite, decrement, first = np.zeros(len(b), bool), np.inf, at.information
    history = [at.loglik]
    for iteration in range(limit):
        step = newton_step(at, free)
        previous, decrement = decrement, float(at.score[free] @ step[free])
        if decrement <= CONVERGED or not free.any():
            infinite = flat_directions(first, at.information, span, free)
            return Maximum(b, at, iteration, decrement, not infinite.any(), infinite, tuple(history))
        if span is not None and decrement < RUNAWAY_DECREMENT:
            infinite = free & (np.abs(step) * span > RUNAWAY_STEP)
            if infinite.any():
                return Maximum(b, at, iteration, decrement, False, infinite, tuple(history))
        b_new, at_new = _halved(evaluation, b, at, step)
        if at_new is None or (decrement < ACCEPTED and decrement >= previous):
            return Maximum(b, at, iteration, decrement, decrement < ACCEPTED, infinite, tuple(history))
        b, at = b_new, at_new
        history.append(at.loglik)
    return Maximum(b, at, limit, decrement, decrement < ACCEPTED, infinite, tuple(history))


def flat_directions(first: FloatArray, last: FloatArray, span: FloatArray | None, free: BoolArray) -> BoolArray:
    """Coordinates in directions along which the information has vanished since the start: maxima at infinity."""
    infinite = np.zeros(len(free), bool)
    if span is None or not free.any():
        return infinite
    width = np.where(span > 0, span, 1.0)[free]
    before, after = (m[np.ix_(free, free)] * np.outer(width, width) for m in (first, last))
    if _all_left(before, after):
        return infinite
    try:
        root = np.linalg.cholesky(before)
        inner = np.linalg.solve(root, np.linalg.solve(root, after).T)
        values, vectors = np.linalg.eigh((inner + inner.T) / 2.0)
    except np.linalg.LinAlgError:
        return free.copy()
    directions = np.abs(np.linalg.solve(root.T, vectors[:, values < VANISHED]))
    if directions.size:
        infinite[free] = (directions > 0.1 * directions.max(axis=0)).any(axis=1)
    return infinite


def _all_left(before: FloatArray, after: FloatArray) -> bool:
    """True when every direction keeps its information: the smallest share left is above 1 / trace(after^-1 before)."""
    try:
        ratio = np.linalg.solve(np.linalg.cholesky(after), np.linalg.cholesky(before))
    except np.linalg.LinAlgError:
        return False
    return bool(np.sum(ratio**2) < 1.0 / VANISHED)


def newton_step(at: Evaluation, free: BoolArray) -> FloatArray:
    """information^-1 score over the free coordinates (least squares when singular), zero elsewhere."""
    step = np.zeros(len(free))
    part, score = (at.information, at.score) if free.all() else (at.information[np.ix_(free, free)], at.score[free])
    scale = np.sqrt(np.maximum(part.diagonal(), TINY))
    scaled = part / (scale[:, None] * scale)
    try:
        step[free] = np.linalg.solve(scaled, score / scale) / scale
    except np.linalg.LinAlgError:
        step[free] = np.linalg.lstsq(scaled, score / scale, rcond=1e-12)[0] / scale
    return step


def _halved(
    evaluation: Callable[[FloatArray], Evaluation], b: FloatArray, at: Evaluation, step: FloatArray
) -> tuple[FloatArray, Evaluation | None]:
    """The longest of step, step/2, ... that does not lower the log-likelihood (beyond rounding)."""
    slack = 1e-12 * (1.0 + abs(at.loglik))
    for _ in range(40):
        candidate = evaluation(b + step)
        if np.isfinite(candidate.loglik) and candidate.loglik >= at.loglik - slack:
            return b + step, candidate
        step = step / 2.0
    return b, None


def fit(data: CoxData, start: FloatArray | None = None, free: BoolArray | None = None) -> Maximum:
    """Maximum partial likelihood estimate; large data start from a thinned fit."""
    p = data.X.shape[1]
    if start is None:
        start = np.zeros(p)
        if len(data.X) > 20_000 and p and data.sets.event.sum() > 200 * p:
            rough = fit(thin(data, max(10, len(data.X) // 20_000)), free=free)
            start = rough.b if rough.converged else start
    return maximise(lambda b: evaluate(data, b), start, free=free, span=data.span)


def independent(info: FloatArray, tolerance: float = 1e-9, size: FloatArray | None = None) -> BoolArray:
    """Columns (p,) that are not linear combinations of earlier ones, by sweeping the information matrix in order.

    size (p,) is what the diagonal is compared with: itself, or the summands whose difference it is.
    """
    work, kept = info.copy(), np.zeros(len(info), bool)
    original = np.diag(info).copy() if size is None else size
    for j in range(len(info)):
        if original[j] > 0 and work[j, j] > tolerance * original[j]:
            kept[j] = True
            work = work - np.outer(work[:, j], work[j]) / work[j, j]
    return kept


def with_offset(data: CoxData, offset: FloatArray | None) -> CoxData:
    """The same rows with another offset (n,), sorted order."""
    return replace(data, offset=offset)
