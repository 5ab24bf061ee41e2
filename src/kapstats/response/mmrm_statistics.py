"""Additive statistics of an MMRM: chunks of a file, workers of a cluster, or hospitals that share no rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import linalg

from kapstats import frames
from kapstats._types import FloatArray, FrameLike
from kapstats.errors import DataError, FormulaError, choose, warn
from kapstats.formula.design import Design, _factor_column, _parse_terms, build, level_text
from kapstats.formula.expressions import BASES, columns_in, complete_rows, evaluate, offsets
from kapstats.formula.split import SPATIAL
from kapstats.frames import Levels
from kapstats.kernels.pattern_moments import Layout, PatternMoments, add, layout, moments, transform, unpack
from kapstats.response import mmrm_files
from kapstats.response.mmrm_chain import chain, check_variation, fit_chain, fit_warnings
from kapstats.response.mmrm_fit import Description, MmrmFit, design_warnings
from kapstats.response.repeated import ORDERED, Visits, check_formula, refuse_unstated
from kapstats.response.small_sample import State, resolve
from kapstats.response.used_levels import on_used_levels
from kapstats.response.whole_subjects import chunks, levels_of_file

ALIAS_TOLERANCE = 1e-5  # share of a column's norm; half the digits of a cross-product are rounding


@dataclass(frozen=True)
class Schema:
    """What all parts have to agree on: the formula and the levels of every factor column, references first."""

    formula: str
    levels: dict[str, tuple[Any, ...]]

    def design(self) -> Design:
        """The design without rows."""
        parsed = check_formula(self.formula)
        frame = self.example()
        built = build(parsed.fixed, frame, order=self.levels, categorical=list(self.levels), alias=False)
        return replace(built, X=np.zeros((0, len(built.names))))

    @property
    def visits(self) -> int:
        """Number of visits."""
        own = check_formula(self.formula).covariance
        assert own is not None
        return len(self.levels[own.coordinates[0]])

    @property
    def groups(self) -> int:
        """Number of groups with a covariance of their own."""
        own = check_formula(self.formula).covariance
        assert own is not None
        return 1 if own.group is None else len(self.levels[own.group])

    def example(self) -> pd.DataFrame:
        """A table in which every level occurs once or more, covariates at one."""
        rows = max((len(v) for v in self.levels.values()), default=1)
        columns: dict[str, Any] = {c: [v[i % len(v)] for i in range(rows)] for c, v in self.levels.items()}
        for expression in _expressions(self.formula):
            for name in columns_in(expression):
                columns.setdefault(name, np.ones(rows))
        return pd.DataFrame(columns)


def _expressions(formula: str) -> list[str]:
    parsed = check_formula(formula)
    empty = pd.DataFrame()
    terms = _parse_terms(parsed.fixed, True, empty)
    return list(dict.fromkeys(e for term in terms for e in term))


@dataclass(frozen=True)
class MmrmStatistics:
    """Cross-products by visit pattern of one part of the data.

    Statistics of disjoint sets of subjects add: ``a + b``, ``sum(parts)``. A fit from them equals the fit of all rows.

    A pattern seen in a single subject *is* that subject's data, and so is a cell of subject-level factors within a
    pattern; ``minimum`` leaves out cells with fewer subjects and counts them in `suppressed_subjects`. Statistics of
    larger cells are sums, not anonymised data: what may leave a site is for the site to decide.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> rng = np.random.default_rng(1)
    >>> data = pd.DataFrame({"ID": np.repeat(np.arange(40), 2), "V": np.tile([1, 2], 40), "Y": rng.normal(size=80)})
    >>> parts = [MmrmStatistics.from_data("Y ~ V + us(V | ID)", data[data.ID % 2 == k], levels={"V": [1, 2]}) for k in (0, 1)]
    >>> sum(parts).fit().nobs
    80
    """  # noqa: E501

    schema: Schema
    moments: PatternMoments
    cells: FloatArray
    n_records: int
    n_subjects: int
    missing: dict[str, int]
    suppressed_subjects: int = 0
    suppressed_rows: int = 0
    weighted: bool = False
    parts: tuple[tuple[str | None, str], ...] = ()

    def __post_init__(self) -> None:
        if not self.parts:
            object.__setattr__(self, "parts", ((None, self._digest()),))

    def _digest(self) -> str:
        return mmrm_files.digest(self.moments, self.cells, self.schema.formula)

    # ------------------------------------------------------------------ making

    @classmethod
    def from_data(
        cls,
        formula: str,
        data: FrameLike,
        *,
        levels: Mapping[str, Sequence[Any]] | None = None,
        weights: str | None = None,
        minimum: int = 0,
        chunk_rows: int | None = None,
        site: str | None = None,
    ) -> MmrmStatistics:
        """Statistics of a table, or of a parquet file read in chunks.

        Parameters
        ----------
        formula : as for `mmrm`
        data : a table, or a path; with `chunk_rows` a parquet file whose rows are sorted by subject
        levels : levels of the factor columns, reference first; parts that are to be added need the same ones
        weights : column of weights
        minimum : leave out subjects in cells (visit pattern by subject-level factors) with fewer subjects
        chunk_rows : rows held at a time
        site : name of the part (a hospital); two parts of one name, or the same statistics twice, are not added

        Raises
        ------
        DataError
            When a value is not among the levels, or the chunks cut a subject apart.
        """
        if chunk_rows is None:
            frame = frames.to_pandas(data)
            if frame.empty:
                raise DataError("data: no rows.")
            schema = Schema(formula, _levels(formula, frame, levels))
            return _summarise(schema, frame, weights, minimum)._as_part(site)
        if minimum:
            raise FormulaError("minimum= counts subjects over the whole table; leave out chunk_rows.")
        path = Path(str(data))
        found_levels = levels_of_file(path, lambda head: _levels(formula, head, levels), levels or (), chunk_rows)
        schema = Schema(formula, found_levels)
        found: MmrmStatistics | None = None
        for frame in chunks(path, _columns(schema, weights), check_formula(formula).covariance, chunk_rows):
            part = _summarise(schema, frame, weights, 0)
            found = part if found is None else found + part
        if found is None:
            raise DataError(f"{path}: the file has no rows.")
        return found._as_part(site)

    def _as_part(self, site: str | None) -> MmrmStatistics:
        """These statistics as one part with its name and digest."""
        return replace(self, parts=((site, self._digest()),))

    def __add__(self, other: MmrmStatistics) -> MmrmStatistics:
        if other.schema != self.schema or other.weighted != self.weighted:
            raise DataError(
                "Statistics of different formulas, levels or weights cannot be added. Make every part with the same "
                f"formula and levels= (here: {self.schema.levels} and {other.schema.levels})."
            )
        _check_disjoint(self, other)
        missing = {k: self.missing.get(k, 0) + other.missing.get(k, 0) for k in {**self.missing, **other.missing}}
        return MmrmStatistics(
            self.schema,
            add(self.moments, other.moments),
            _merged(self.cells, other.cells, len(self.factor_columns)),
            self.n_records + other.n_records,
            self.n_subjects + other.n_subjects,
            missing,
            self.suppressed_subjects + other.suppressed_subjects,
            self.suppressed_rows + other.suppressed_rows,
            self.weighted,
            (*self.parts, *other.parts),
        )

    def __radd__(self, other: Any) -> MmrmStatistics:
        return self if other == 0 else NotImplemented

    @property
    def factor_columns(self) -> list[str]:
        """Factor columns of the fixed effects."""
        return list(self.schema.design().factors)

    @property
    def covariate_columns(self) -> list[str]:
        """Numeric columns of the fixed effects."""
        design = self.schema.design()
        return [c for c in design.spec.columns if c not in design.factors]

    # ------------------------------------------------------------------ files

    def save(self, path: str | Path) -> Path:
        """Write the statistics to one .npz file of plain arrays (no pickle), with the names of its parts."""
        return mmrm_files.write(self, path)

    @classmethod
    def load(cls, path: str | Path) -> MmrmStatistics:
        """Read what `save` wrote, after checking that its numbers fit each other.

        Raises
        ------
        DataError
            When the file is missing or damaged, or when counts, cells and cross-products contradict each other.
        """
        return mmrm_files.read(path)

    # ------------------------------------------------------------------ fitting

    def fit(
        self,
        *,
        reml: bool = True,
        df: str | None = None,
        covariance: Sequence[str] | None = None,
        information: str = "observed",
        convention: str = "SAS",
    ) -> MmrmFit:
        """The MMRM of all parts, as `mmrm`; questions that need rows (robust covariances, residuals) are refused."""
        choose(information, ("observed", "expected"), "information")
        choose(convention, ("SAS", "R"), "convention")
        return on_used_levels(self)._fit(reml, df, covariance, information, convention)

    def _fit(
        self, reml: bool, df: str | None, covariance: Sequence[str] | None, information: str, convention: str
    ) -> MmrmFit:
        """The fit, every level being held by a row."""
        own = check_formula(self.schema.formula).covariance
        assert own is not None
        chosen = df if df is not None else "kenward-roger" if reml else "satterthwaite"
        resolve(chosen, "model", chosen, "model", reml)
        design, aliases = _without_aliases(self.schema.design(), self._gram())
        visits = self._visits()
        stats, basis, shift = self._turned(~design.aliased)
        fits, attempts = fit_chain(stats, visits, chain(covariance, own.structure), reml, basis)
        has_intercept = any(not t.factors for t in design.terms)
        n = int(self.moments.n_obs[0])
        state = State(
            stats, fits, basis, shift, ~design.aliased, aliases, self.n_subjects, n, self._between(design),
            has_intercept, information, None,
        )  # fmt: skip
        texts = [*design_warnings(design), *fit_warnings(attempts, fits, visits), *self._said()]
        description = Description(
            self.schema.formula, own.group, self.n_records, n, self.n_subjects, self.missing,
            str(check_formula(self.schema.formula).response), convention, "pandas", "",
        )  # fmt: skip
        return MmrmFit(
            state, self._with_codes(design), self._stand_in(), visits, reml, chosen, "model", attempts,
            tuple(map(warn, texts)), description, None, None, self.means(),
        )  # fmt: skip

    def _said(self) -> list[str]:
        if not self.suppressed_subjects:
            return []
        return [
            f"{self.suppressed_subjects} subjects ({self.suppressed_rows} rows) in cells below the minimum size "
            "were left out by the sites."
        ]

    def _gram(self) -> FloatArray:
        """[X y]'[X y] over all rows (weighted where weights were given)."""
        m = self.moments
        return unpack(m.gram[0, m.pairs[1] == m.pairs[2]].sum(axis=0))

    def _visits(self) -> Visits:
        own = check_formula(self.schema.formula).covariance
        assert own is not None
        labels = tuple(level_text(v) for v in self.schema.levels[own.coordinates[0]])
        groups = ("",) if own.group is None else tuple(level_text(v) for v in self.schema.levels[own.group])
        arranged = Layout(np.zeros((0, len(labels)), dtype=bool), np.zeros(0, dtype=np.intp), (), ())
        distance = None
        if own.structure in SPATIAL:
            points = np.array([float(v) for v in self.schema.levels[own.coordinates[0]]])
            distance = np.repeat(np.abs(np.subtract.outer(points, points))[None], len(groups), axis=0)
        ids = np.zeros(0, dtype=np.intp)
        return Visits(labels, groups, (), ids, arranged, np.arange(len(groups)), distance, True)

    def _turned(self, kept: np.ndarray) -> tuple[PatternMoments, FloatArray, FloatArray]:
        """Statistics of [X R^-1, y - X R^-1 b0] with R, b0 from least squares."""
        total = self._gram()
        columns = np.flatnonzero(kept)
        a = total[np.ix_(columns, columns)]
        scale = np.sqrt(np.diag(a))
        basis = np.linalg.cholesky(a / np.outer(scale, scale)).T * scale
        inverse = linalg.solve_triangular(basis, np.eye(len(columns)))
        shift = inverse.T @ total[columns, -1]
        turn = np.zeros((len(total), len(columns) + 1))
        turn[columns, :-1], turn[columns, -1], turn[-1, -1] = inverse, -inverse @ shift, 1.0
        residual = float(turn[:, -1] @ total @ turn[:, -1])
        check_variation(int(self.moments.n_obs[0]), len(columns), residual, float(total[-1, -1]), 1e-13)
        return transform(self.moments, turn), basis, shift

    def _between(self, design: Design) -> np.ndarray:
        """Columns constant within subjects: k sum_t x_t^2 = (sum_t x_t)^2 in every pattern."""
        m = self.moments
        i, j = np.triu_indices(m.columns)
        squares = m.gram[0][:, i == j][:, :-1]
        p, s, t = m.pairs
        size = m.seen.sum(1)[p][:, None]
        same = np.where((s == t)[:, None], (size - 1) * squares, -squares).sum(0)
        all_of = np.where((s == t)[:, None], (size - 1) * squares, 0.0).sum(0)
        constant: np.ndarray = np.abs(same) <= 1e-10 * np.maximum(all_of, 1e-300)
        for term in design.terms:
            if not term.factors:
                constant[term.start : term.stop] = False
        return constant

    # ------------------------------------------------------------------ the reference grid without rows

    def means(self) -> dict[str, float]:
        """Means of the covariates over the rows."""
        k = len(self.factor_columns)
        counts = self.cells[:, k].sum()
        return dict(zip(self.covariate_columns, self.cells[:, k + 1 :].sum(0) / counts, strict=True))

    def _with_codes(self, design: Design) -> Design:
        """The design with the codes of every row (rows of a cell together)."""
        counts = self.cells[:, len(self.factor_columns)].astype(np.int64)
        codes = {c: np.repeat(self.cells[:, i].astype(np.int64), counts) for i, c in enumerate(self.factor_columns)}
        factors = {c: Levels(f.values, codes[c], f.source) for c, f in design.factors.items()}
        return replace(design, factors=factors)

    def _stand_in(self) -> pd.DataFrame:
        """As many rows as were used with the factor levels of their cells; covariates vary around their mean.

        It only serves to find which functions of the coefficients the design can determine.
        """
        counts = self.cells[:, len(self.factor_columns)].astype(np.int64)
        rng = np.random.default_rng(1)
        columns: dict[str, Any] = {}
        for i, c in enumerate(self.factor_columns):
            values = pd.Index(list(self.schema.levels[c]), dtype="object")
            codes = np.repeat(self.cells[:, i].astype(np.int64), counts)
            columns[c] = pd.Categorical.from_codes(codes, values, ordered=True)
        for c, mean in self.means().items():
            columns[c] = (mean if mean != 0 else 1.0) * rng.uniform(0.8, 1.2, counts.sum())
        return pd.DataFrame(columns)


def _check_disjoint(one: MmrmStatistics, other: MmrmStatistics) -> None:
    """Refuse a part that is in both: its subjects would count twice."""
    twice = {sign for _, sign in one.parts} & {sign for _, sign in other.parts}
    names = {site for site, _ in one.parts if site} & {site for site, _ in other.parts if site}
    if twice or names:
        called = sorted(names | {site or "without a name" for site, sign in other.parts if sign in twice})
        raise DataError(
            f"{', '.join(called)}: this part is in both statistics; its subjects would count twice. Add every part "
            "once; two parts of one site need names of their own (site=)."
        )


def _without_aliases(design: Design, gram: FloatArray) -> tuple[Design, FloatArray]:
    """The design with its aliased columns marked, from X'X; and A with X_aliased = X_kept A."""
    a = gram[:-1, :-1]
    scale = np.sqrt(np.where(np.diag(a) > 0, np.diag(a), 1.0))
    unit = a / np.outer(scale, scale)
    kept: list[int] = []
    for j in range(len(a)):
        rest = unit[j, j]
        if kept:
            rest -= unit[j, kept] @ np.linalg.solve(unit[kept][:, kept], unit[kept, j])
        if rest > ALIAS_TOLERANCE**2:
            kept.append(j)
    aliased = np.ones(len(a), dtype=bool)
    aliased[kept] = False
    found = np.linalg.solve(a[~aliased][:, ~aliased], a[~aliased][:, aliased])
    whole = np.round(found)
    return replace(design, aliased=aliased), np.asarray(np.where(np.abs(found - whole) < 1e-7, whole, found))


# ------------------------------------------------------------------------------------------- from rows


def _levels(formula: str, frame: pd.DataFrame, given: Mapping[str, Sequence[Any]] | None) -> dict[str, tuple[Any, ...]]:
    """Levels of every factor column of the formula: those given, else those of the table."""
    parsed = check_formula(formula)
    own = parsed.covariance
    assert own is not None
    if len(own.coordinates) != 1:
        raise FormulaError("MmrmStatistics takes one coordinate: sp_exp(x | S). Use ks.mmrm for more.")
    given = dict(given or {})
    expressions = list(dict.fromkeys(e for term in _parse_terms(parsed.fixed, True, frame) for e in term))
    if any(e.startswith(tuple(f"{b}(" for b in BASES)) for e in expressions):
        raise FormulaError("Bases learned from the data (poly, bs, ns, cr) do not add up over parts; use fixed powers.")
    categorical = {own.coordinates[0]} if own.structure not in SPATIAL else set()
    columns = [c for c in (_factor_column(e, frame, categorical) for e in expressions) if c is not None]
    columns += [own.coordinates[0], *([own.group] if own.group else [])]
    visit = own.coordinates[0]
    if visit not in given and own.structure in ORDERED:
        found = frames.levels(frame, visit)
        if found.source == "sorted" and len(found.values) > 2:
            refuse_unstated(visit, found.values, f"{own.structure}() depends on it")
    return {c: tuple(given[c]) if c in given else frames.levels(frame, c).values for c in dict.fromkeys(columns)}


def _summarise(schema: Schema, frame: pd.DataFrame, weights: str | None, minimum: int) -> MmrmStatistics:
    """Statistics of one table."""
    parsed, design = check_formula(schema.formula), schema.design()
    own = parsed.covariance
    assert own is not None
    needed = [str(parsed.response), *design.spec.variables, *own.coordinates, own.subject, *parsed.offset]
    needed += [c for c in (own.group, weights) if c is not None]
    rows, missing = complete_rows(frame, needed)
    if not len(rows):
        raise DataError(f"data: none of {len(frame)} rows is complete in {', '.join(dict.fromkeys(map(str, needed)))}.")
    used = frame.iloc[rows].reset_index(drop=True)
    visit = frames.levels(used, own.coordinates[0], schema.levels[own.coordinates[0]])
    place = _places(visit, schema.levels[own.coordinates[0]])
    subject, ids = pd.factorize(used[own.subject])
    group = np.zeros(len(ids), dtype=np.intp)
    if own.group is not None:
        group[subject] = _places(frames.levels(used, own.group, schema.levels[own.group]), schema.levels[own.group])
    keep = _large_enough(used, design, subject, place, minimum)
    lost = len(np.unique(subject[~keep])), int((~keep).sum())
    if not keep.all():
        used, place = used.loc[keep].reset_index(drop=True), place[keep]
        old = subject[keep]
        subject, ids = pd.factorize(old)
        group = group[ids]
    y = evaluate(str(parsed.response), used) - offsets(parsed.offset, used)
    arranged = layout(subject, place, group, len(schema.levels[own.coordinates[0]]))
    w = None if weights is None else used[weights].to_numpy(dtype=float)
    found = moments(np.column_stack([design.spec.matrix(used), y]), arranged, w)
    return MmrmStatistics(
        schema, found, _cells(used, design, schema), len(frame), len(ids), missing, *lost, weights is not None
    )


def _places(found: Levels, levels: Sequence[Any]) -> np.ndarray:
    """Codes among all levels of the schema (those of `found` skip levels that no row holds)."""
    return np.array([list(levels).index(v) for v in found.values], dtype=np.intp)[found.codes]


def _large_enough(
    used: pd.DataFrame, design: Design, subject: np.ndarray, visit: np.ndarray, minimum: int
) -> np.ndarray:
    """Rows of subjects in cells (visit pattern by subject-level factor levels) of `minimum` subjects or more."""
    if minimum <= 1:
        return np.ones(len(used), dtype=bool)
    n = int(subject.max()) + 1
    table = np.zeros((n, int(visit.max()) + 1), dtype=bool)
    table[subject, visit] = True
    keys = pd.DataFrame(table)
    for c in design.factors:
        code = pd.factorize(used[c])[0]
        first = np.zeros(n, dtype=np.int64)
        first[subject] = code
        if (first[subject] == code).all():
            keys[c] = first
    size = keys.groupby(list(keys.columns))[keys.columns[0]].transform("size").to_numpy()
    return np.asarray(size[subject] >= minimum)


def _cells(used: pd.DataFrame, design: Design, schema: Schema) -> FloatArray:
    """Rows of [factor codes, rows, sums of covariates], one per combination of factor levels."""
    factors = list(design.factors)
    covariates = [c for c in design.spec.columns if c not in design.factors]
    codes = {c: _places(frames.levels(used, c, schema.levels[c]), schema.levels[c]) for c in factors}
    sums = {f"(sum {c})": used[c].to_numpy(dtype=float) for c in covariates}
    table = pd.DataFrame({**codes, "(rows)": np.ones(len(used)), **sums})
    return _collapsed(table.to_numpy(dtype=float), len(factors))


def _merged(a: FloatArray, b: FloatArray, factors: int) -> FloatArray:
    return _collapsed(np.vstack([a, b]), factors)


def _collapsed(table: FloatArray, factors: int) -> FloatArray:
    """Rows with the same codes in the first columns added up."""
    if not factors:
        return table.sum(axis=0, keepdims=True)
    keys, index = np.unique(table[:, :factors], axis=0, return_inverse=True)
    sums = np.zeros((len(keys), table.shape[1] - factors))
    np.add.at(sums, index.reshape(-1), table[:, factors:])
    return np.hstack([keys, sums])


def _columns(schema: Schema, weights: str | None) -> list[str]:
    parsed = check_formula(schema.formula)
    own = parsed.covariance
    assert own is not None
    names = [*columns_in(str(parsed.response)), *schema.design().spec.columns, *own.coordinates, own.subject]
    names += [n for e in parsed.offset for n in columns_in(e)] + [c for c in (own.group, weights) if c is not None]
    return list(dict.fromkeys(names))
