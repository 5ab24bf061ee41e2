"""One shape for every result: a frame of estimates, their covariance, and what has to be said about them."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from kapstats import display, frames, interchange
from kapstats._types import BoolArray, FloatArray
from kapstats.display import NUMERIC
from kapstats.errors import DataError, FormulaError, check_level, first_ids, nearest, warn
from kapstats.kernels.risk_sets import snap
from kapstats.scales import ON_SCALE, Scale, of
from kapstats.table import Table, number

T = TypeVar("T")
SHOWN = 60  # rows of a long result that its repr shows


def meta(
    *,
    method: str,
    level: float | None = 0.95,
    side: str = "two",
    adjustment: str = "none",
    scale: str = "identity",
    title: str = "",
    sentence: str = "",
    estimand: str = "",
    conventions: Iterable[str] = (),
    warnings: Iterable[str] = (),
    data: pd.DataFrame | str | None = None,
    **more: Any,
) -> dict[str, Any]:
    """The description that travels with a result.

    sentence : the model sentence ("REML, unstructured, Kenward-Roger; 756 of 800 records, 200 subjects; ...")
    scale : "identity", "log", "logit" ...: the scale on which `estimate` stands
    more : anything else, above all `measure`, what is estimated in words ("hazard ratio", "log odds"; see `scales`)
    data : the frame analysed (its fingerprint is kept, and the estimand that `Estimand.apply` wrote into it) or a
        fingerprint
    """
    print_of = frames.fingerprint(data) if isinstance(data, pd.DataFrame) else data
    estimand = estimand or (frames.estimand(data) if isinstance(data, pd.DataFrame) else "")
    return {
        "method": method,
        "level": None if level is None else check_level(level),
        "side": side,
        "adjustment": adjustment,
        "scale": scale,
        "title": title,
        "sentence": sentence,
        "estimand": estimand,
        "conventions": tuple(conventions),
        "warnings": tuple(warnings),
        "data": print_of,
        "versions": dict(versions()),
        **more,
    }


@lru_cache(maxsize=1)
def versions() -> Mapping[str, str]:
    """Versions of what computed the result."""
    names = ("kapstats", "numpy", "scipy", "pandas")
    return {"python": platform.python_version()} | {name: _version(name) for name in names}


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


class Description(dict[str, Any]):
    """The description of a result: a dictionary that can be read and merged (``{**meta, ...}``), not changed.

    Examples
    --------
    >>> about = Description(method="wald")
    >>> {**about, "level": 0.9}, about["method"]
    ({'method': 'wald', 'level': 0.9}, 'wald')
    >>> about["method"] = "score"
    Traceback (most recent call last):
    TypeError: the description of a result cannot be changed; make a new one with {**meta, ...}
    """

    def _refused(self, *_: Any, **__: Any) -> Any:
        raise TypeError("the description of a result cannot be changed; make a new one with {**meta, ...}")

    __setitem__ = __delitem__ = __ior__ = _refused
    update = pop = popitem = clear = setdefault = _refused

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (dict(self),)


class _Sealed:
    """A stored table or description that callers can read but not change."""

    def __init__(self, name: str) -> None:
        self.slot = f"_{name}"

    def __get__(self, result: Any, owner: type | None = None) -> Any:
        if result is None:
            raise AttributeError(self.slot)  # for a dataclass: a field without a default
        kept = result.__dict__[self.slot]
        return _copied(kept) if isinstance(kept, pd.DataFrame) else _read_only(kept)

    def __set__(self, result: Any, value: Any) -> None:
        result.__dict__[self.slot] = Description(value) if isinstance(value, Mapping) else value


def _read_only(value: Any) -> Any:
    """A view of an array that cannot be written to; anything else as it is."""
    if not isinstance(value, np.ndarray):
        return value
    view = value.view()
    view.flags.writeable = False
    return view


def _copied(frame: pd.DataFrame) -> pd.DataFrame:
    """A copy that shares nothing a caller could change; pandas 3 copies when written to."""
    return frame.copy(deep=not _COPY_ON_WRITE)


_COPY_ON_WRITE = int(pd.__version__.split(".")[0]) >= 3


def sealed(result: type[T]) -> type[T]:
    """A frozen dataclass whose tables, `meta` and `vcov` cannot be changed from outside either."""
    for each in fields(result):  # type: ignore[arg-type]
        if each.name in ("meta", "vcov") or each.type == "pd.DataFrame":
            setattr(result, each.name, _Sealed(each.name))
    return result


def stored(result: Any) -> pd.DataFrame:
    """The table of a sealed result itself, without the copy; never change it."""
    frame: pd.DataFrame = result.__dict__["_frame"]
    return frame


@dataclass(frozen=True)
class Picture:
    """The figure of a result, stated by the verb that made it.

    kind : a name of ``report.figures.choose.KINDS``; "none" where nothing can be drawn
    options : arguments of that figure: ``strata`` of curves, ``x`` and ``group`` of a profile, ``label`` of a forest
    """

    kind: str = "forest"
    options: Mapping[str, Any] = field(default_factory=dict)


@sealed
@dataclass(frozen=True)
class Estimates:
    """A table of estimates with their covariance and description.

    Parameters
    ----------
    frame : identifying columns, then ``estimate std_error df statistic p_value conf_low conf_high`` where they apply
    meta : method, level, side, adjustment, scale, conventions, warnings, data fingerprint, versions
    vcov : (rows, rows) covariance of the estimates, or None
    picture : the figure that ``plot()`` draws

    Examples
    --------
    >>> import pandas as pd
    >>> est = Estimates(pd.DataFrame({"term": ["a", "b"], "estimate": [0.0, 1.0]}), meta(method="example", scale="log"))
    >>> est.exponentiate().filter(term="a")["estimate"].tolist()
    [1.0]
    """

    frame: pd.DataFrame
    meta: dict[str, Any] = field(default_factory=dict)
    vcov: FloatArray | None = None
    picture: Picture = Picture()

    def to_frame(self) -> Any:
        """The rows as a new table of the caller's kind (pandas, polars or pyarrow)."""
        return frames.restore(self.frame, self.meta.get("frame_kind", "pandas"))

    def __getitem__(self, column: str) -> pd.Series:
        frames.require(stored(self), [column], "result")
        return stored(self)[column].copy()

    def __len__(self) -> int:
        return len(stored(self))

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """The rows as dictionaries, so that ``pd.DataFrame(result)`` is the table."""
        return interchange.rows(stored(self))

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        """The rows for ``pl.DataFrame(result)``, ``pa.table(result)`` and everything else that takes Arrow."""
        return interchange.arrow_stream(stored(self), requested_schema)

    def tidy(self) -> Any:
        """The rows, one an estimate, with broom's column names: the same as `to_frame()`."""
        return self.to_frame()

    def save(self, path: str | Path) -> Path:
        """Write the result to a file and return its path; the ending chooses the format.

        Parameters
        ----------
        path : ending with csv, xlsx, parquet or json (numbers with full precision), or html, md, txt, tex, rtf or docx
            (the table as it prints)

        Raises
        ------
        FormulaError
            For an ending that is not known.
        DataError
            When the file cannot be written, or a package that it needs is not installed.
        """
        return interchange.save(self, stored(self), path)

    @property
    def columns(self) -> list[str]:
        """Column names in order."""
        return list(stored(self).columns)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the reader of these numbers has to know."""
        return tuple(self.meta.get("warnings", ()))

    @property
    def scales(self) -> tuple[Scale, ...]:
        """What each row estimates and on which scale: the words, whether it is a ratio, whether print shows exp."""
        return tuple(of(stored(self), self.meta))

    def filter(self, **values: Any) -> Estimates:
        """The rows where each named column equals the value (or is one of a list of values).

        A value that the column does not have is warned about; lists of findings may well have none.
        """
        frames.require(stored(self), values, "result")
        keep = matching(stored(self), values, findings="estimate" not in self.columns or "verbatim" in self.meta)
        vcov = None if self.vcov is None else self.vcov[np.ix_(keep, keep)]
        return replace(self, frame=stored(self).loc[keep].reset_index(drop=True), vcov=vcov)

    def exponentiate(self) -> Estimates:
        """Estimates and limits of a log scale on the natural scale (ratios); std_error by the delta method."""
        scale = self.meta.get("scale", "identity")
        if scale not in ("log", "logit"):
            raise FormulaError(f"exponentiate: the estimates are on the {scale} scale, not on a log scale.")
        natural = np.exp(self.frame["estimate"].to_numpy(dtype=float))
        changed: dict[str, Any] = {"estimate": natural}
        changed |= {c: np.exp(self.frame[c].astype(float)) for c in ON_SCALE[1:] if c in self.frame}
        if "std_error" in self.frame:
            changed["std_error"] = natural * self.frame["std_error"].astype(float)
        vcov = None if self.vcov is None else self.vcov * np.outer(natural, natural)
        measure = str(self.meta.get("measure") or "").removeprefix("log ")
        about = {**self.meta, "scale": "natural", "measure": measure}
        return replace(self, frame=self.frame.assign(**changed), vcov=vcov, meta=about)

    def table(self, digits: int = 2, *, title: str | None = None, columns: Iterable[str] | None = None) -> Table:
        """The rows as a `Table`: limits in one column, ratios as ratios, p values as printed, missing numbers as NE.

        Parameters
        ----------
        digits : decimals of estimates and limits; standard errors have one more
        title : in place of the result's own
        columns : the columns to show, in this order
        """
        return display.table(stored(self), self.meta, digits, title, columns)

    def to_text(self) -> str:
        """Plain text."""
        return self.table().to_text()

    def to_markdown(self) -> str:
        """GitHub-flavoured Markdown."""
        return self.table().to_markdown()

    def to_html(self) -> str:
        """HTML."""
        return self.table().to_html()

    def to_latex(self) -> str:
        """LaTeX (booktabs)."""
        return self.table().to_latex()

    def to_rtf(self, path: str | Path) -> Path:
        """Write Rich Text Format."""
        return self.table().to_rtf(path)

    def to_docx(self, path: str | Path) -> Path:
        """Write a Word file."""
        return self.table().to_docx(path)

    def to_ard(self) -> Any:
        """Analysis results data: one row per statistic with groups, raw value, printed text, method, warnings."""
        return frames.restore(_ard(self.frame, self.meta), self.meta.get("frame_kind", "pandas"))

    def plot(self, ax: Any = None, **options: Any) -> Any:
        """The figure that fits the result (profile, curve or forest), with its confidence intervals."""
        from kapstats.report.figures.forest import plot

        return plot(self, ax=ax, **options)

    def _repr_html_(self) -> str:
        return self.to_html()

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        """What a notebook shows: HTML where it can, text elsewhere."""
        return {"text/html": self._repr_html_(), "text/plain": repr(self)}

    def __str__(self) -> str:
        return self.to_text()

    def __repr__(self) -> str:
        if len(self) <= SHOWN:
            return self.to_text()
        head = replace(self, frame=self.frame.iloc[:SHOWN], vcov=None).to_text()
        return f"{head}\n... {len(self) - SHOWN} more rows; print() shows all."


def matching(frame: pd.DataFrame, values: Mapping[str, Any], findings: bool = False) -> BoolArray:
    """Rows where each column equals its value, or is one of several; a value that a column lacks is warned about.

    findings : rows that need not be there; then only a value near to one that is there is taken for a mistake
    """
    keep = np.ones(len(frame), dtype=bool)
    for column, value in values.items():
        allowed = list(value) if isinstance(value, (list, tuple, set)) else [value]
        keep &= frame[column].isin(allowed).to_numpy()
        there = list(dict.fromkeys(frame[column]))
        for absent in (v for v in allowed if there and not frame[column].isin([v]).any()):
            near = nearest(str(absent), map(str, there))
            if near or not findings:
                warn(f"filter: no row has {column}={absent!r}.{near} It has: {first_ids(there)}.")
    return keep


def _ard(frame: pd.DataFrame, description: Mapping[str, Any]) -> pd.DataFrame:
    """Long form of `frame`: group columns, variable level, stat_name, stat, stat_fmt, method, warning."""
    stats = [c for c in frame.columns if c not in _identifiers(frame)]
    parts = []
    for stat in stats:
        part = frame[_identifiers(frame)].copy()
        part["stat_name"] = stat
        part["stat"] = pd.to_numeric(frame[stat], errors="coerce").astype(float)
        texts = display.cells(frame[[stat]], stat, 2, description.get("level"))
        part["stat_fmt"] = texts or [number(v) for v in part["stat"]]
        part["row"] = np.arange(len(frame))
        parts.append(part)
    if not parts:
        raise DataError("to_ard: this result has no statistics columns.")
    long = pd.concat(parts, ignore_index=True).sort_values(["row"], kind="stable").drop(columns="row")
    long.insert(0, "analysis", description.get("title") or description.get("method", ""))
    return long.assign(
        method=description.get("method", ""),
        conf_level=description.get("level"),
        warning="; ".join(description.get("warnings", ())),
    ).reset_index(drop=True)


def _identifiers(frame: pd.DataFrame) -> list[str]:
    """Columns that say what a row is: everything before the first statistic that is text, plus numeric keys."""
    known = {*NUMERIC, "num_df", "n", "N", "n_subjects", "n_events", "percent", "n_risk", "n_event", "n_censor"}
    keys = {"time", "AVISITN", "visit", "q", "quantile"}
    is_text = {c: not pd.api.types.is_numeric_dtype(frame[c].dtype) for c in frame.columns}
    return [c for c in frame.columns if c not in known and (is_text[c] or c in keys)]


@dataclass(frozen=True)
class Curve:
    """A right-continuous step function, known up to the end of follow-up.

    time : (k,) increasing times of the steps
    value : (k,) value from that time on
    before : the value before the first step
    until : the last time at which the value is known; later values are NaN, with a warning, unless ``extend=True``
    of : the stratum, for that warning

    Examples
    --------
    >>> curve = Curve(np.array([1.0, 2.0]), np.array([0.8, 0.5]), until=2.5)
    >>> curve([0.5, 1.0, 2.5]).tolist(), curve([3.0], extend=True).tolist()
    ([1.0, 0.8, 0.5], [0.5])
    """

    time: FloatArray
    value: FloatArray
    before: float = 1.0
    until: float = np.inf
    of: str = ""

    def __call__(self, t: Any, *, extend: bool = False) -> FloatArray:
        asked = snap(np.asarray(t, dtype=float), np.append(self.time, self.until))
        found = np.concatenate([[self.before], self.value])[np.searchsorted(self.time, asked, side="right")]
        past = asked > self.until
        if extend or not past.any():
            return found
        later = first_ids(f"{x:g}" for x in np.atleast_1d(asked)[np.atleast_1d(past)])
        end = f"{self.of or 'The curve'} is followed to {self.until:g}"
        warn(f"{end}; not estimable (NaN) at {later}. extend=True carries the last value forward.")
        return np.where(past, np.nan, found)

    def at(self, t: Any, *, extend: bool = False) -> FloatArray:
        """The value at times `t`; ``extend=True`` carries the last one forward past the end of follow-up."""
        return self(t, extend=extend)
