"""A plan: which analyses to run on a trial, as a TOML file read into frozen dataclasses.

Whatever is misspelt is an error that names the line and the nearest valid name.
"""

from __future__ import annotations

import dataclasses
import re
import tomllib
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from kapstats.errors import FormulaError, nearest

ADJUSTMENTS = ("none", "bonferroni", "holm", "hochberg", "sidak", "tukey", "dunnett", "mvt")
SURVIVAL_PARTS = ("logrank", "cox", "zph", "rmst")


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """What the report is about.

    data : a trial of ``ks.datasets``, analysed when no folder is given
    arms : order of the arms where the data do not state it; the first is the reference
    response_question, relapse_question, safety_question : headings of the sections, when the usual ones do not fit
    """

    title: str
    subtitle: str = ""
    data: str = ""
    arms: tuple[str, ...] = ()
    response_question: str = ""
    relapse_question: str = ""
    safety_question: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Analysis:
    """What all kinds of analysis have.

    name : of the files and links it makes
    dataset : ADaM dataset
    population : flag in ADSL ("" for everybody)
    where : conditions on rows, all of which must hold: ``"PARAMCD == 'MADRS'"``, ``"AVISITN > 0"``,
        ``"AVISIT in ['Week 8', 'Week 16']"``, ``"DTYPE is missing"``
    level : of the confidence intervals
    """

    question: ClassVar[str] = ""
    name: str
    title: str
    dataset: str = ""
    population: str = ""
    where: tuple[str, ...] = ()
    level: float = 0.95
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Mmrm(Analysis):
    """LS means and differences by visit from a mixed model for repeated measures.

    adjust : adjustments of the p values within a visit, each in its own column
    covariance : fallback chain that replaces the structure in the formula
    label : what the outcome is, as on an axis ("Change in MADRS, points")
    better : "lower" or "higher"
    """

    question: ClassVar[str] = "response"
    dataset: str = "adqs"
    formula: str
    arm: str = "TRT01P"
    visit: str = "AVISIT"
    reference: str | None = None
    df: str = "kenward-roger"
    covariance: tuple[str, ...] = ()
    reml: bool = True
    adjust: tuple[str, ...] = ("none",)
    label: str = "Outcome"
    better: str = "lower"
    forest: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Survival(Analysis):
    """Kaplan-Meier curves, log-rank test, Cox model with its check, restricted mean.

    formula : ``Surv(time, event) ~ arm`` for the curves and, when `model` is not given, for test and Cox model
    model : formula of log-rank test and Cox model when it differs (strata)
    show : which of logrank, cox, zph, rmst
    times : when survival is tabulated and the number at risk printed
    label : what the curve is, as on an axis ("Free of relapse")
    event : what happens, in a sentence ("relapse")
    """

    question: ClassVar[str] = "relapse"
    dataset: str = "adtte"
    formula: str
    model: str = ""
    reference: str | None = None
    ties: str = "efron"
    conf_type: str = "log-log"
    show: tuple[str, ...] = ("logrank", "cox", "zph")
    times: tuple[float, ...] = ()
    tau: float | None = None
    unit: str = "days"
    label: str = "Free of the event"
    event: str = "the event"


@dataclass(frozen=True, slots=True, kw_only=True)
class Incidence(Analysis):
    """Adverse events by group: counts by organ class and term, differences against the reference.

    by : ADSL column that groups
    min_percent : terms below this in every group stay out of the differences and the figure
    """

    question: ClassVar[str] = "safety"
    dataset: str = "adae"
    population: str = "SAFFL"
    by: str = "TRT01A"
    terms: tuple[str, ...] = ("AEBODSYS", "AEDECOD")
    reference: str | None = None
    method: str = "miettinen-nurminen"
    treatment_emergent: bool = True
    min_percent: float = 5.0
    figure_terms: int = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Course(Analysis):
    """The hours after a dose: means of a score or vital sign by minute and group.

    by : ADSL column that groups
    parameter : PARAMCD
    session : dosing session
    baseline : analyse the change from the value before the dose
    threshold : a level worth marking; the time above it is estimated
    """

    question: ClassVar[str] = "safety"
    dataset: str = "advs"
    population: str = "SAFFL"
    by: str = "ROUTE"
    parameter: str = "CADSS"
    session: int = 1
    baseline: bool = False
    threshold: float = 4.0
    label: str = "CADSS total score"


KINDS: dict[str, type[Analysis]] = {"mmrm": Mmrm, "survival": Survival, "incidence": Incidence, "course": Course}


@dataclass(frozen=True, slots=True)
class Plan:
    """A study and its analyses, in the order of the report.

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
    source: str = "plan"
    text: str = dataclasses.field(default="", repr=False)


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
        content = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise FormulaError(f"{source}: not valid TOML: {error or 'nested too deeply'}") from error
    for key in content:
        if key not in ("study", "defaults", "analysis"):
            known = ("study", "defaults", "analysis")
            raise lines.error((key, 0, ""), f"there is no table [{key}].{nearest(key, known)}")
    study = _build(Study, _table(content, "study", lines), ("study", 0), "[study]", lines)
    defaults = _table(content, "defaults", lines)
    analyses = tuple(_analysis(i, raw, defaults, lines) for i, raw in enumerate(_analyses(content, lines)))
    _unique(analyses, lines)
    return Plan(study, analyses, source, text)


def _table(content: Mapping[str, Any], name: str, lines: Lines) -> dict[str, Any]:
    found = content.get(name, {})
    if not isinstance(found, dict):
        raise lines.error(("", 0, name), f"{name} has to be a table: [{name}].")
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
    if kind not in KINDS:
        hint = nearest(str(kind), KINDS)
        said = "needs a kind" if kind is None else f"has no kind {kind!r}"
        raise lines.error(("analysis", i, "kind"), f"[[analysis]] {said}.{hint} Choose one of: {', '.join(KINDS)}.")
    cls = KINDS[kind]
    known = {f.name for f in dataclasses.fields(cls)}
    everything = {f.name for other in KINDS.values() for f in dataclasses.fields(other)}
    for key in defaults:
        if key not in everything - {"name", "title", "formula"}:
            raise lines.error(("defaults", 0, key), f"[defaults] has no key {key!r}.{nearest(key, everything)}")
    inherited = {k: v for k, v in defaults.items() if k in known}
    own = {k: v for k, v in raw.items() if k != "kind"}
    return _checked(_build(cls, inherited | own, ("analysis", i), f"[[analysis]] {kind}", lines), i, lines)


def _checked(made: Any, i: int, lines: Lines) -> Any:
    """`made`, when its values are among those that are known."""
    allowed: dict[str, tuple[str, ...]] = {"adjust": ADJUSTMENTS, "show": SURVIVAL_PARTS, "better": ("lower", "higher")}
    for key, choices in allowed.items():
        value = getattr(made, key, ())
        for item in (value,) if isinstance(value, str) else value:
            if item not in choices:
                hint = nearest(str(item), choices)
                raise lines.error(("analysis", i, key), f"{key} = {item!r}.{hint} Choose among: {', '.join(choices)}.")
    if not 0.5 <= made.level < 1:
        raise lines.error(("analysis", i, "level"), f"level = {made.level:g}; give it as a proportion, 0.95 for 95%.")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", made.name):
        raise lines.error(
            ("analysis", i, "name"), f"name = {made.name!r}: letters, digits, - and _ only; it names files."
        )
    return made


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
    if float in options and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) not in options:
        wanted = {str: "text in quotes", float: "a number", bool: "true or false", int: "a whole number"}.get(
            options[0], str(options[0])
        )
        raise lines.error(where, f"{where[2]} = {value!r}: expected {wanted}.")
    return value


class Lines:
    """Where the keys of a TOML text stand: the parser of the standard library does not say."""

    def __init__(self, text: str, source: str) -> None:
        self.source = source
        self._at: dict[tuple[str, int, str], int] = {}
        table, counts, inside = ("", 0), dict[str, int](), ""
        for number, line in enumerate(text.splitlines(), start=1):
            quoted, inside = bool(inside), _still_inside(line, inside)
            if quoted:
                continue
            if header := re.match(r"\s*(\[\[?)\s*([^\[\]#]+?)\s*\]", line):
                name = header[2].strip("\"'")
                counts[name] = counts.get(name, -1) + 1
                table = (name, counts[name])
                self._at.setdefault((*table, ""), number)
            elif key := re.match(r"""\s*["']?([\w-]+)["']?\s*[.=]""", line):
                self._at.setdefault((*table, key[1]), number)

    def error(self, where: tuple[str, int, str], message: str) -> FormulaError:
        """An error at a key; at the head of its table when the key itself is not found."""
        line = self._at.get(where) or self._at.get((where[0], where[1], "")) or self._at.get(("", 0, where[0]))
        place = f"{self.source}, line {line}" if line else self.source
        return FormulaError(f"{place}: {message}")


def _still_inside(line: str, inside: str) -> str:
    """The quotes of the multi-line string that is open after `line`, or nothing."""
    for quotes in re.findall(r'"""|\'\'\'', line):
        if not inside:
            inside = quotes
        elif inside == quotes:
            inside = ""
    return inside
