"""A plan: which analyses to run on a trial, as a TOML file read into frozen dataclasses.

Whatever is misspelt is an error that names the line and the nearest valid name.
"""

from __future__ import annotations

import dataclasses
import math
import re
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kapstats.data import notation
from kapstats.errors import FormulaError, nearest
from kapstats.pipeline.kinds import KINDS, Analysis, Documents, Study
from kapstats.pipeline.lines import Lines

TABLES = ("study", "documents", "levels", "defaults", "analysis")
#: keys with a fixed set of values; a test holds them to those of the estimators
CHOICES: dict[str, tuple[str, ...]] = {
    "df": (
        "satterthwaite",
        "kenward-roger",
        "kenward-roger-linear",
        "kenward-roger-mmrm",
        "between-within",
        "residual",
        "normal",
    ),
    "conf_type": ("plain", "log", "log-log", "logit", "arcsin"),
    "ties": ("efron", "breslow", "exact", "kalbfleisch-prentice"),
    "adjust": ("none", "bonferroni", "holm", "hochberg", "sidak", "tukey", "dunnett", "mvt"),
    "show": ("logrank", "cox", "zph", "rmst"),
    "better": ("lower", "higher"),
    "convention": ("SAS", "R"),
    "denominator": ("N", "n"),
    "measure": ("difference", "RD", "OR"),
}
DOCUMENTS: dict[str, tuple[str, ...]] = {
    "formats": ("rtf", "docx", "latex"),
    "orientation": ("landscape", "portrait"),
}
#: key, what its value has to satisfy, and what is said where it does not
LIMITS: tuple[tuple[str, Callable[[Any], bool], str], ...] = (
    ("dataset", lambda name: re.fullmatch(r"[aA][dD]\w*", name) is not None, "ADaM datasets have names with ad first"),
    ("page_rows", lambda rows: rows >= 0, "a number of rows, or 0"),
    ("times", lambda times: min(times) >= 0 < max(times), "times after the start, in the unit of the analysis"),
    ("tau", lambda tau: tau > 0, "a time after the start"),
    ("figure_terms", lambda terms: terms >= 1, "a number of terms, 1 or more"),
    ("session", lambda session: session >= 1, "the number of a session, 1 or more"),
    ("limit", lambda limit: limit >= 0, "a number of records, or 0 for all"),
    ("min_percent", lambda percent: 0 <= percent <= 100, "a percentage"),
)


@dataclass(frozen=True, slots=True)
class Plan:
    """A study and its analyses, in the order of the report.

    levels : order of the levels of columns that do not state it; None accepts the order of their values

    Examples
    --------
    >>> plan = parse('''
    ... [study]
    ... title = "A trial"
    ... [[analysis]]
    ... kind = "incidence"
    ... name = "ae"
    ... title = "Adverse events"
    ... ''')
    >>> plan.analyses[0].by, plan.analyses[0].question
    ('TRT01A', 'safety')
    """

    study: Study
    analyses: tuple[Analysis, ...]
    documents: Documents = field(default_factory=Documents)
    levels: dict[str, tuple[Any, ...] | None] = field(default_factory=dict)
    source: str = "plan"
    text: str = field(default="", repr=False)


def read(plan: str | Path | Plan) -> Plan:
    """The plan in a TOML file, or one that comes with kapstats by its name.

    Raises
    ------
    FormulaError
        When there is no such plan, or it says something that is not known; with the line.
    """
    if isinstance(plan, Plan):
        return plan
    path = find(plan)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise FormulaError(f"{path}: cannot be read as UTF-8 text ({error}).") from error
    return parse(text, path.name)


def find(plan: str | Path) -> Path:
    """Where the plan is: the path itself, or a built-in plan of that name."""
    path = Path(plan)
    if path.is_file():
        return path
    own = {p.stem: p for p in sorted(folder().glob("*.toml"))}
    if str(plan) in own:
        return own[str(plan)]
    what = "is a folder" if path.is_dir() else "is not there"
    raise FormulaError(f"Plan {str(plan)!r} {what}.{nearest(str(plan), own)} Built-in plans: {', '.join(own)}.")


def folder() -> Path:
    """Where the built-in plans are: inside the installed package, or at the root of a source checkout."""
    here = Path(__file__).resolve()
    installed = here.parent / "plans"
    return installed if installed.is_dir() else here.parents[3] / "plans"


def parse(text: str, source: str = "plan") -> Plan:
    """The plan that the TOML `text` says.

    Examples
    --------
    >>> try:
    ...     parse('[study]\\ntitel = "A trial"\\n', "my.toml")
    ... except FormulaError as error:
    ...     print(error)
    my.toml, line 2: [study] has no key 'titel'. Did you mean 'title'?
    """
    lines = Lines(text, source)
    try:
        content = notation.toml(text)
    except ValueError as error:
        raise FormulaError(f"{source}: not valid TOML: {error}") from error
    for key in content:
        if key not in TABLES:
            raise lines.error((key, 0, ""), f"there is no table [{key}].{nearest(key, TABLES)}")
    study = _build(Study, _table(content, "study", lines), ("study", 0), "[study]", lines)
    documents = _build(Documents, _table(content, "documents", lines), ("documents", 0), "[documents]", lines)
    _chosen(documents, DOCUMENTS, ("documents", 0), lines)
    levels = {name: _levels(name, value, lines) for name, value in _table(content, "levels", lines).items()}
    defaults = _table(content, "defaults", lines)
    analyses = tuple(_analysis(i, raw, defaults, lines) for i, raw in enumerate(_analyses(content, lines)))
    _unique(analyses, lines)
    return Plan(study, analyses, documents, levels, source, text)


def _levels(name: str, value: Any, lines: Lines) -> tuple[Any, ...] | None:
    """The order of the levels of one column, or None for the order of its values."""
    if value == "sorted":
        return None
    plain = isinstance(value, list) and value and all(type(v) in (str, int, float) for v in value)
    if not plain or len(set(value)) < len(value):
        said = f'{name} = {value!r}: expected a list of levels, each once, in order, or "sorted".'
        raise lines.error(("levels", 0, name), said)
    return tuple(value)


def _table(content: Mapping[str, Any], name: str, lines: Lines) -> dict[str, Any]:
    found = content.get(name, {})
    if not isinstance(found, dict):
        raise lines.error((name, 0, ""), f"{name} has to be a table: [{name}].")
    return dict(found)


def _analyses(content: Mapping[str, Any], lines: Lines) -> list[dict[str, Any]]:
    found = content.get("analysis", [])
    if not isinstance(found, list) or not all(isinstance(raw, dict) for raw in found):
        raise lines.error(("analysis", 0, ""), "analyses are written [[analysis]], with two brackets.")
    if not found:
        raise FormulaError(f"{lines.source}: the plan has no [[analysis]].")
    return found


def _analysis(i: int, raw: Mapping[str, Any], defaults: Mapping[str, Any], lines: Lines) -> Analysis:
    kind = raw.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        hint = nearest(str(kind), KINDS)
        said = "needs a kind" if kind is None else f"unknown kind {kind!r}"
        raise lines.error(("analysis", i, "kind"), f"[[analysis]] {said}.{hint} Choose one of: {', '.join(KINDS)}.")
    cls = KINDS[kind]
    known = {f.name for f in dataclasses.fields(cls)}
    everything = {f.name for other in KINDS.values() for f in dataclasses.fields(other)}
    for key in defaults:
        if key not in everything - {"name", "title", "formula"}:
            raise lines.error(("defaults", 0, key), f"[defaults] has no key {key!r}.{nearest(key, everything)}")
    hints = typing.get_type_hints(cls)
    inherited = {k: v for k, v in defaults.items() if k in known and k not in raw}
    for key, value in inherited.items():
        _convert(value, hints[key], ("defaults", 0, key), lines)
    own = {k: v for k, v in raw.items() if k != "kind"}
    return _checked(_build(cls, inherited | own, ("analysis", i), f"[[analysis]] {kind}", lines), i, lines)


def _checked(made: Any, i: int, lines: Lines) -> Any:
    """`made`, when its values are among those that are known."""
    _chosen(made, CHOICES, ("analysis", i), lines)
    if not 0.5 <= made.level < 1:
        raise lines.error(("analysis", i, "level"), f"level = {made.level:g}; give it as a proportion, 0.95 for 95%.")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", made.name):
        raise lines.error(
            ("analysis", i, "name"), f"name = {made.name!r}: letters, digits, - and _ only; it names files."
        )
    for key, allowed, said in LIMITS:
        value = getattr(made, key, None)
        if value not in (None, ()) and not allowed(value):
            raise lines.error(("analysis", i, key), f"{key} = {value!r}: {said}.")
    return made


def _chosen(made: Any, allowed: Mapping[str, tuple[str, ...]], table: tuple[str, int], lines: Lines) -> None:
    """Refuse a value outside the fixed set of its key."""
    for key, choices in allowed.items():
        value = getattr(made, key, ())
        for item in (value,) if isinstance(value, str) else value:
            if item not in choices:
                hint = nearest(str(item), choices)
                raise lines.error((*table, key), f"{key} = {item!r}.{hint} Choose among: {', '.join(choices)}.")


def _unique(analyses: Iterable[Analysis], lines: Lines) -> None:
    seen: set[str] = set()
    for i, analysis in enumerate(analyses):
        if analysis.name.lower() in seen:
            raise lines.error(("analysis", i, "name"), f"name = {analysis.name!r} stands twice.")
        seen.add(analysis.name.lower())


def _build(cls: type, values: Mapping[str, Any], table: tuple[str, int], label: str, lines: Lines) -> Any:
    """`cls` from the values of a TOML table."""
    fields = {f.name: f for f in dataclasses.fields(cls)}
    hints = typing.get_type_hints(cls)
    for key in values:
        if key not in fields:
            raise lines.error((*table, key), f"{label} has no key {key!r}.{nearest(key, fields)}")
    needed = [f.name for f in fields.values() if f.default is f.default_factory is dataclasses.MISSING]
    if missing := [name for name in needed if name not in values]:
        raise lines.error((*table, ""), f"{label} needs {', '.join(missing)}.")
    converted = {key: _convert(value, hints[key], (*table, key), lines) for key, value in values.items()}
    return cls(**converted)


def _convert(value: Any, hint: Any, where: tuple[str, int, str], lines: Lines) -> Any:
    """`value` as the type that `hint` names; a list becomes a tuple, a single value a tuple of one."""
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if typing.get_origin(options[0]) is tuple:
        item = typing.get_args(options[0])[0]
        values = value if isinstance(value, list) else [value]
        return tuple(_convert(v, item, where, lines) for v in values)
    if isinstance(value, float) and not math.isfinite(value):
        raise lines.error(where, f"{where[2]} = {value!r}: expected a finite number.")
    if float in options and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) not in options:
        wanted = {str: "text in quotes", float: "a number", bool: "true or false", int: "a whole number"}.get(
            options[0], str(options[0])
        )
        raise lines.error(where, f"{where[2]} = {value!r}: expected {wanted}.")
    return value
