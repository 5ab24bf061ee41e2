"""Files of additive MMRM statistics: plain arrays, checked for what they must add up to before they are believed."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from kapstats._types import FloatArray
from kapstats.errors import DataError, KapstatsError
from kapstats.kernels.pattern_moments import PatternMoments, pair_index, unpack

if TYPE_CHECKING:
    from kapstats.response.mmrm_statistics import MmrmStatistics

FORMAT = 2
#: bytes of text and patterns that a file may hold; every other size follows from these
LARGEST = 200_000_000
ROUNDING = 1e-8  # relative error of sums that were formed in another order


def digest(moments: PatternMoments, cells: FloatArray, formula: str) -> str:
    """Sixteen hex digits of everything that enters a fit: the same statistics have the same digest."""
    found = hashlib.sha256(formula.encode())
    for values in (moments.seen, moments.block.astype(np.int64), moments.count, moments.gram, cells):
        found.update(np.ascontiguousarray(values).tobytes())
    return found.hexdigest()[:16]


def write(stats: MmrmStatistics, path: str | Path) -> Path:
    """Write `stats` as one .npz file (no pickle)."""
    m = stats.moments
    facts = {
        "format": FORMAT,
        "formula": stats.schema.formula,
        "levels": {c: [_plain(v) for v in values] for c, values in stats.schema.levels.items()},
        "counts": [stats.n_records, stats.n_subjects, stats.suppressed_subjects, stats.suppressed_rows],
        "missing": stats.missing,
        "weighted": stats.weighted,
        "parts": [list(part) for part in stats.parts],
        "digest": digest(m, stats.cells, stats.schema.formula),
    }
    path = Path(path)
    with path.open("wb") as file:
        np.savez_compressed(
            file, facts=np.array(json.dumps(facts)), cells=stats.cells, seen=m.seen, block=m.block.astype(np.int64),
            count=m.count, n_obs=m.n_obs, log_weight=m.log_weight, gram=m.gram,
        )  # fmt: skip
    return path


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def read(path: str | Path) -> MmrmStatistics:
    """Read what `write` wrote.

    Raises
    ------
    DataError
        When the file is missing, is no such file, is damaged, or when its numbers contradict each other.
    """
    path = Path(path)
    try:
        with zipfile.ZipFile(path) as archive:
            return _read(path, archive)
    except FileNotFoundError:
        raise DataError(f"{path}: file not found.") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}).") from None
    except (zipfile.BadZipFile, EOFError, NotImplementedError):
        raise DataError(f"{path}: not a file of MmrmStatistics (made by .save(path)), or damaged.") from None


def _read(path: Path, archive: zipfile.ZipFile) -> MmrmStatistics:
    from kapstats.response.mmrm_statistics import MmrmStatistics, Schema

    def must(held: bool, what: str) -> None:
        if not held:
            raise DataError(f"{path}: {what}. The file is damaged or was changed; ask the site for a new one.")

    def array(name: str, kind: str, shape: tuple[int, ...] | None = None) -> Any:
        """One array after its header was checked, so that no file can ask for more memory than it should."""
        must(f"{name}.npy" in archive.namelist(), f"{name} is missing")
        with archive.open(f"{name}.npy") as file:
            found, width, type_ = _header(file)
            must(type_ == kind and (shape is None or found == shape), f"{name} has the shape {found} or another type")
            must(int(np.prod(found, dtype=float)) * width <= LARGEST or shape is not None, f"{name} is too large")
        with archive.open(f"{name}.npy") as file:
            return np.lib.format.read_array(file, allow_pickle=False)

    facts = _facts(str(array("facts", "U", ())), must)
    try:
        schema = Schema(facts["formula"], {c: tuple(v) for c, v in facts["levels"].items()})
        design, visits, groups = schema.design(), schema.visits, schema.groups
    except (KapstatsError, TypeError, ValueError, AttributeError, KeyError, IndexError) as error:
        raise DataError(f"{path}: formula and levels do not fit each other ({error}).") from None
    columns, factors = len(design.names) + 1, list(design.factors)
    seen = array("seen", "b")
    must(seen.ndim == 2 and len(seen) > 0 and seen.shape[1] == visits, f"{visits} visits are named, not {seen.shape}")
    pairs = pair_index(seen)
    moments = PatternMoments(
        seen, array("block", "i", (len(seen),)).astype(np.intp), array("count", "f", (1, len(seen))),
        array("n_obs", "f", (1,)), array("log_weight", "f", (1,)), pairs,
        array("gram", "f", (1, pairs.shape[1], columns * (columns + 1) // 2)),
    )  # fmt: skip
    cells = array("cells", "f")
    must(cells.ndim == 2 and cells.shape[1] == len(factors) + 1 + len(_covariates(design)), "cells have another width")
    must(digest(moments, cells, schema.formula) == facts["digest"], "the numbers do not fit the digest")
    records, subjects, lost, lost_rows = facts["counts"]
    parts = tuple((site, sign) for site, sign in facts["parts"])
    stats = MmrmStatistics(
        schema, moments, cells, records, subjects, facts["missing"], lost, lost_rows, facts["weighted"], parts
    )
    for held, what in _laws(stats, groups):
        must(held, what)
    return stats


def _header(file: Any) -> tuple[tuple[int, ...], int, str]:
    """Shape, bytes per number and kind of a stored array, without its numbers."""
    version = np.lib.format.read_magic(file)
    reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    try:
        shape, _, dtype = reader(file)
    except ValueError:
        return (), 0, "?"
    return shape, dtype.itemsize, dtype.kind


def _facts(text: str, must: Callable[[bool, str], None]) -> Mapping[str, Any]:
    """The description, every entry of the type that it must have."""
    try:
        facts = json.loads(text)
    except ValueError:
        facts = None
    must(isinstance(facts, dict), "its description cannot be read")
    assert isinstance(facts, dict)
    must(facts.get("format") == FORMAT, f"its format is {facts.get('format')}; this version reads {FORMAT}")
    kinds = {"formula": str, "levels": dict, "counts": list, "missing": dict, "weighted": bool, "parts": list,
             "digest": str}  # fmt: skip
    wrong = [name for name, kind in kinds.items() if not isinstance(facts.get(name), kind)]
    must(not wrong, f"its description lacks {', '.join(wrong)}")
    whole = [*facts["counts"], *facts["missing"].values()]
    must(len(facts["counts"]) == 4 and all(type(v) is int and v >= 0 for v in whole), "counts must be whole numbers")
    named = all(isinstance(p, list) and len(p) == 2 and isinstance(p[1], str) for p in facts["parts"])
    must(named and bool(facts["parts"]), "its parts are not named")
    for column, values in facts["levels"].items():
        must(isinstance(values, list) and len(set(map(str, values))) == len(values), f"levels of {column} repeat")
    return facts


def _covariates(design: Any) -> list[str]:
    return [c for c in design.spec.columns if c not in design.factors]


def _laws(stats: MmrmStatistics, groups: int) -> Iterator[tuple[bool, str]]:
    """What the numbers of a file must satisfy, whatever the data were; each asked where those before are met."""
    m, cells, design = stats.moments, stats.cells, stats.schema.design()
    finite = all(np.isfinite(v).all() for v in (m.count, m.n_obs, m.log_weight, m.gram, cells))
    yield finite, "it has infinite or missing numbers"
    yield bool((m.count > 0).all() and (m.count % 1 == 0).all()), "subjects per pattern must be whole and positive"
    keys = {(int(b), row.tobytes()) for b, row in zip(m.block, m.seen, strict=True)}
    yield bool(m.seen.any(axis=1).all()) and len(keys) == len(m.seen), "visit patterns must be distinct and not empty"
    yield bool(((m.block >= 0) & (m.block < groups)).all()), "a covariance group is not among the levels"
    yield float(m.count.sum()) == stats.n_subjects, "subjects do not add up over the visit patterns"
    rows, lost = float(m.n_obs[0]), stats.suppressed_rows
    yield float((m.count[0] * m.seen.sum(axis=1)).sum()) == rows, "rows do not add up over the visit patterns"
    codes, sizes = np.split(cells[:, : len(design.factors) + 1], [len(design.factors)], axis=1)
    limits = np.array([len(f.values) for f in design.factors.values()])
    yield bool(((codes >= 0) & (codes < limits) & (codes % 1 == 0)).all()), "cells have codes of no level"
    yield bool((sizes > 0).all() and (sizes % 1 == 0).all()), "rows of a cell must be whole and positive"
    yield float(sizes.sum()) == rows, "rows do not add up over the cells"
    most = rows + lost + sum(stats.missing.values())
    yield rows + lost <= stats.n_records <= most, "records do not add up"
    yield stats.weighted or float(m.log_weight[0]) == 0.0, "weights in statistics without weights"
    yield _products(m)
    if not stats.weighted:
        yield from _counted(stats, design)


def _products(m: PatternMoments) -> tuple[bool, str]:
    """Cross-products of real rows: G_ss, and G_ss + G_tt +- (G_st + G_ts), have no negative eigenvalue."""
    full = unpack(m.gram[0])
    place = {(int(p), int(s), int(t)): i for i, (p, s, t) in enumerate(m.pairs.T)}
    same = full[m.pairs[1] == m.pairs[2]]
    apart = [(full[i], full[place[p, s, s]] + full[place[p, t, t]]) for (p, s, t), i in place.items() if s < t]
    pairs = [(total + sign * mixed, total) for mixed, total in apart for sign in (1.0, -1.0)]
    matrices, sizes = (np.stack(found) for found in zip(*[(g, g) for g in same], *pairs, strict=True))
    scale = np.sqrt(np.maximum(np.einsum("...ii->...i", sizes), 1e-300))
    unit = matrices / (scale[:, :, None] * scale[:, None, :])
    fine = np.isfinite(unit).all() and (np.linalg.eigvalsh(unit)[:, 0] >= -1e-6).all()
    return bool(fine), "its cross-products cannot come from rows of data"


def _counted(stats: MmrmStatistics, design: Any) -> Iterator[tuple[bool, str]]:
    """X'1 two ways: the column of ones against the counts, and columns of factors against the cells."""
    m, k = stats.moments, len(design.factors)
    ones = next((t.start for t in design.terms if not t.factors), None)
    if ones is None:
        return
    full = unpack(m.gram[0])
    p, s, t = m.pairs
    expected = np.where(s == t, 1.0, 2.0) * m.count[0, p]
    yield bool(np.allclose(full[:, ones, ones], expected, rtol=ROUNDING)), "cross-products do not fit the counts"
    total = full[s == t].sum(axis=0)[ones, :-1]
    columns = {c: [f.values[int(i)] for i in stats.cells[:, j]] for j, (c, f) in enumerate(design.factors.items())}
    sizes = stats.cells[:, k]
    means = stats.cells[:, k + 1 :] / sizes[:, None]
    frame = {**columns, **{c: means[:, j] for j, c in enumerate(_covariates(design))}}
    sums = sizes @ design.spec.matrix(pd.DataFrame(frame))
    scale = np.sqrt(np.maximum(np.diag(full[s == t].sum(axis=0))[:-1] * total[ones], 1e-300))
    for term in (term for term in design.terms if _is_linear(term, design)):
        part = slice(term.start, term.stop)
        fits = bool((np.abs(sums[part] - total[part]) <= 1e-6 * scale[part]).all())
        yield fits, f"cross-products of {term.name or '1'} do not fit the cells"


def _is_linear(term: Any, design: Any) -> bool:
    """Whether sums of the term's columns follow from the cells: factors, and at most one covariate as it is."""
    variables = design.spec.variables
    others = [e for e in term.factors if variables[e].kind != "factor"]
    return len(others) <= 1 and all(e.strip("`") in design.spec.columns for e in others)
