"""Additive statistics of a Gaussian model for repeated measures: cross-products by visit pattern.

Letters: n subjects, m visits, N rows, q columns of X, c = q + 1 columns of Z = [X y], P patterns, B replicates.
A pattern is a set of visits together with a covariance block. With z_is the row of subject i at visit s,

    G_p[s, t] = sum_{i in p} z_is z_it'                       (c x c)

is everything the likelihood needs: sum_i Z_i' W_p Z_i = sum_st W_p[s, t] G_p[s, t] for any symmetric W_p, and
sum_i z_is' M z_it = tr(M G_p[s, t]). Only s <= t is kept, as G[s, t] + G[t, s] packed to c (c + 1) / 2 numbers, so both
directions are one matrix product whose cost does not depend on n. Statistics of disjoint sets of subjects add.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]
Bools = NDArray[np.bool_]

_CHUNK = 4_000_000  # numbers gathered at a time while cross-products are formed


@dataclass(frozen=True, slots=True)
class Layout:
    """Rows arranged by subject and pattern.

    seen (P, m) bool; block (P,); rows: P arrays (n_p, k_p) of row positions, visits ascending; subjects: P arrays
    (n_p,).
    """

    seen: Bools
    block: Ints
    rows: tuple[Ints, ...]
    subjects: tuple[Ints, ...]


@dataclass(frozen=True, slots=True)
class PatternMoments:
    """Statistics of B replicates that share their patterns.

    seen (P, m) bool; block (P,) covariance block of each pattern; count (B, P) subjects; n_obs (B,) rows;
    log_weight (B,) sum of log weights; pairs (3, S): pattern, s, t with s <= t; gram (B, S, c (c + 1) / 2) packed.
    """

    seen: Bools
    block: Ints
    count: Floats
    n_obs: Floats
    log_weight: Floats
    pairs: Ints
    gram: Floats

    @property
    def columns(self) -> int:
        """c, the number of columns of Z = [X y]."""
        return int((np.sqrt(8 * self.gram.shape[-1] + 1) - 1) / 2 + 0.5)


def layout(subject: Ints, visit: Ints, block: Ints, m: int) -> Layout:
    """Arrange rows by pattern. subject (N,) codes 0..n-1, visit (N,) codes 0..m-1, block (n,) of each subject."""
    key = subject.astype(np.int64) * m + visit
    order = np.arange(key.size) if np.all(key[1:] > key[:-1]) else np.argsort(key, kind="stable")
    subject, visit = subject[order], visit[order]
    if np.any(np.diff(key[order]) == 0):
        raise ValueError("a subject has two rows at the same visit")
    start = np.flatnonzero(np.r_[True, subject[1:] != subject[:-1]])
    length = np.diff(np.r_[start, subject.size])
    who = subject[start]
    pattern, seen = _patterns(visit, start, m)
    cells, index = np.unique(block[who] * len(seen) + pattern, return_inverse=True)
    by_cell, ends = np.argsort(index, kind="stable"), np.cumsum(np.bincount(index, minlength=len(cells)))
    rows, subjects = [], []
    for chosen in np.split(by_cell, ends[:-1]):
        rows.append(order[start[chosen][:, None] + np.arange(length[chosen[0]])])
        subjects.append(who[chosen])
    return Layout(seen[cells % len(seen)], (cells // len(seen)).astype(np.intp), tuple(rows), tuple(subjects))


def _patterns(visit: Ints, start: Ints, m: int) -> tuple[Ints, Bools]:
    """Code (n,) of each subject's set of visits, and the sets (codes, m)."""
    if m <= 62:
        code = np.add.reduceat(np.left_shift(np.int64(1), visit.astype(np.int64)), start)
        distinct, index = np.unique(code, return_inverse=True)
        seen = (distinct[:, None] >> np.arange(m)) & 1 == 1
        return index, seen
    table = np.zeros((start.size, m), dtype=bool)
    table[np.repeat(np.arange(start.size), np.diff(np.r_[start, visit.size])), visit] = True
    seen, index = np.unique(table, axis=0, return_inverse=True)
    return index.reshape(-1), seen


def moments(z: Floats, arranged: Layout, weights: Floats | None = None) -> PatternMoments:
    """Cross-products of the rows of z (N, c), weighted by sqrt(w_is w_it); one replicate."""
    root = None if weights is None else np.sqrt(weights)
    parts = [_pattern_gram(z, root, rows) for rows in arranged.rows]
    count = np.array([[len(rows) for rows in arranged.rows]], dtype=float)
    log_weight = 0.0 if weights is None else float(sum(np.log(weights[rows]).sum() for rows in arranged.rows))
    return PatternMoments(
        arranged.seen, arranged.block, count, np.array([float(sum(rows.size for rows in arranged.rows))]),
        np.array([log_weight]), pair_index(arranged.seen), np.concatenate(parts)[None],
    )  # fmt: skip


def _pattern_gram(z: Floats, root: Floats | None, rows: Ints) -> Floats:
    """Packed cross-products (k (k + 1) / 2, c (c + 1) / 2) of one pattern, in chunks of subjects."""
    k, c = rows.shape[1], z.shape[1]
    total = np.zeros((k * c, k * c))
    step = max(1, _CHUNK // (k * c))
    for first in range(0, len(rows), step):
        part = rows[first : first + step]
        block = z[part] if root is None else z[part] * root[part][..., None]
        flat = block.reshape(len(part), k * c)
        total += flat.T @ flat
    return pack_pairs(total.reshape(k, c, k, c).transpose(0, 2, 1, 3))


def pack_pairs(g: Floats) -> Floats:
    """(..., k, k, c, c) cross-products -> (..., k (k + 1) / 2, c (c + 1) / 2): G[s, t] + G[t, s] for s < t, packed."""
    s, t = np.triu_indices(g.shape[-4])
    chosen = g[..., s, t, :, :]
    chosen = chosen + np.where((s < t)[:, None, None], np.swapaxes(chosen, -1, -2), 0.0)
    i, j = np.triu_indices(g.shape[-1])
    return chosen[..., i, j]


def pair_index(seen: Bools) -> Ints:
    """(3, S): pattern, s, t of every kept pair s <= t, patterns in order."""
    both = seen[:, :, None] & seen[:, None, :] & np.triu(np.ones((seen.shape[1],) * 2, dtype=bool))
    return np.array(np.nonzero(both))


def unpack(packed: Floats) -> Floats:
    """(..., c (c + 1) / 2) -> symmetric (..., c, c)."""
    c = int((np.sqrt(8 * packed.shape[-1] + 1) - 1) / 2 + 0.5)
    i, j = np.triu_indices(c)
    position = np.empty((c, c), dtype=np.intp)
    position[i, j] = position[j, i] = np.arange(i.size)
    return packed[..., position]


def weighted_sum(stats: PatternMoments, w: Floats) -> Floats:
    """sum_p sum_st W_p[s, t] G_p[s, t]. w (B, J, P, m, m) symmetric -> (B, J, c, c)."""
    p, s, t = stats.pairs
    return unpack(w[:, :, p, s, t] @ stats.gram)


def traces(stats: PatternMoments, matrices: Floats) -> Floats:
    """tr(M_j G_p[s, t]). matrices (B, J, c, c) symmetric -> (B, J, P, m, m), zero at visits that a pattern lacks."""
    i, j = np.triu_indices(matrices.shape[-1])
    packed = matrices[..., i, j] * np.where(i == j, 1.0, 2.0)
    p, s, t = stats.pairs
    value = (packed @ np.swapaxes(stats.gram, -1, -2)) * np.where(s == t, 1.0, 0.5)
    out = np.zeros((*matrices.shape[:2], *stats.seen.shape, stats.seen.shape[1]))
    out[:, :, p, s, t] = value
    out[:, :, p, t, s] = value
    return out


def transform(stats: PatternMoments, basis: Floats) -> PatternMoments:
    """Statistics of the columns Z T. basis T (c, c')."""
    full = unpack(stats.gram)
    turned = np.swapaxes(basis, -1, -2) @ full @ basis
    i, j = np.triu_indices(basis.shape[-1])
    return _with_gram(stats, turned[..., i, j])


def select(stats: PatternMoments, chosen: Ints) -> PatternMoments:
    """The replicates at the given positions."""
    return PatternMoments(
        stats.seen, stats.block, stats.count[chosen], stats.n_obs[chosen], stats.log_weight[chosen], stats.pairs,
        stats.gram[chosen],
    )  # fmt: skip


def add(a: PatternMoments, b: PatternMoments) -> PatternMoments:
    """Statistics of the union of two disjoint sets of subjects (patterns are matched by block and visits)."""
    if a.seen.shape[1] != b.seen.shape[1] or a.gram.shape[-1] != b.gram.shape[-1]:
        raise ValueError("statistics of different visits or columns cannot be added")
    keys = sorted({*_keys(a), *_keys(b)})
    seen = np.array([k[1] for k in keys], dtype=bool).reshape(len(keys), a.seen.shape[1])
    block = np.array([k[0] for k in keys], dtype=np.intp)
    pairs = pair_index(seen)
    count, gram = np.zeros((len(a.count), len(keys))), np.zeros((len(a.count), pairs.shape[1], a.gram.shape[-1]))
    for part in (a, b):
        place = np.array([keys.index(k) for k in _keys(part)], dtype=np.intp)
        count[:, place] += part.count
        first = np.searchsorted(pairs[0], place)
        begin = np.searchsorted(part.pairs[0], np.arange(len(place)))
        target = first[part.pairs[0]] + np.arange(part.pairs.shape[1]) - begin[part.pairs[0]]
        gram[:, target] += part.gram
    return PatternMoments(seen, block, count, a.n_obs + b.n_obs, a.log_weight + b.log_weight, pairs, gram)


def _keys(stats: PatternMoments) -> list[tuple[int, tuple[bool, ...]]]:
    return [(int(g), tuple(bool(x) for x in row)) for g, row in zip(stats.block, stats.seen, strict=True)]


def without(
    stats: PatternMoments, z: Floats, arranged: Layout, weights: Floats | None = None, who: Ints | None = None
) -> PatternMoments:
    """One replicate per subject of `who` (default all, by code), that subject's cross-products taken away.

    z (N, c) are the rows behind `stats` (one replicate), whose patterns stand in the order of the layout.
    """
    who = np.arange(sum(len(s) for s in arranged.subjects)) if who is None else who
    n = len(who)
    gram = np.repeat(stats.gram, n, axis=0)
    count, n_obs, log_weight = np.repeat(stats.count, n, 0), np.repeat(stats.n_obs, n), np.repeat(stats.log_weight, n)
    first = np.searchsorted(stats.pairs[0], np.arange(len(stats.block) + 1))
    for p, (rows, subjects) in enumerate(zip(arranged.rows, arranged.subjects, strict=True)):
        place = np.flatnonzero(np.isin(who, subjects))
        if not len(place):
            continue
        own = rows[np.searchsorted(subjects, who[place])]
        block = z[own] if weights is None else z[own] * np.sqrt(weights[own])[..., None]
        products = pack_pairs(np.einsum("nsi,ntj->nstij", block, block))
        gram[place[:, None], np.arange(first[p], first[p + 1])] -= products
        count[place, p] -= 1.0
        n_obs[place] -= rows.shape[1]
        log_weight[place] -= 0.0 if weights is None else np.log(weights[own]).sum(axis=1)
    return PatternMoments(stats.seen, stats.block, count, n_obs, log_weight, stats.pairs, gram)


def _with_gram(stats: PatternMoments, gram: Floats) -> PatternMoments:
    return PatternMoments(stats.seen, stats.block, stats.count, stats.n_obs, stats.log_weight, stats.pairs, gram)


def replicate_moments(x: Floats, y: Floats, block: Ints | None = None, blocks: int = 1) -> PatternMoments:
    """Statistics of B data sets on one design, in one pass.

    Parameters
    ----------
    x : (n, m, q) design rows of every subject at every visit
    y : (B, n, m) responses, NaN where a visit was missed
    block : (n,) covariance block of each subject (default all in block 0 of `blocks`)
    """
    b, n, m = y.shape
    block = np.zeros(n, dtype=np.intp) if block is None else block
    there = np.isfinite(y)
    code = (there @ (1 << np.arange(m, dtype=np.int64))) * blocks + block  # (B, n)
    cells = np.unique(code[there.any(2)])
    seen = ((cells // blocks)[:, None] >> np.arange(m)) & 1 == 1
    order = np.lexsort((cells // blocks, cells % blocks))
    cells, seen = cells[order], seen[order]
    inside = (code[:, None, :] == cells[None, :, None]).astype(float)  # (B, P, n)
    pairs = pair_index(seen)
    gram = _replicate_gram(x, np.where(there, y, 0.0), inside, pairs)
    return PatternMoments(
        seen, (cells % blocks).astype(np.intp), inside.sum(2), there.sum((1, 2)).astype(float), np.zeros(b), pairs, gram
    )


def _replicate_gram(x: Floats, y: Floats, inside: Floats, pairs: Ints) -> Floats:
    """Packed cross-products (B, S, c (c + 1) / 2) pair of visits by pair of visits."""
    q = x.shape[2]
    rows, columns = np.triu_indices(q + 1)
    gram = np.empty((len(y), pairs.shape[1], rows.size))
    i, j = np.triu_indices(q)
    is_xx = columns < q
    for s, t in {(int(a), int(b)) for a, b in pairs[1:].T}:
        at = np.flatnonzero((pairs[1] == s) & (pairs[2] == t))
        member = inside[:, pairs[0, at]]  # (B, P', n)
        xs, xt, ys, yt = x[:, s], x[:, t], y[:, :, s], y[:, :, t]
        xx = xs[:, i] * xt[:, j] + (xt[:, i] * xs[:, j] if s < t else 0.0)
        part = np.empty((len(y), len(at), rows.size))
        part[:, :, is_xx] = member @ xx
        xy = (member * yt[:, None, :]) @ xs + ((member * ys[:, None, :]) @ xt if s < t else 0.0)
        part[:, :, (columns == q) & (rows < q)] = xy
        part[:, :, -1] = (member @ (ys * yt)[:, :, None])[..., 0] * (2.0 if s < t else 1.0)
        gram[:, at] = part
    return gram
