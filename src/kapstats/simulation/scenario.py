"""A scenario: everything that defines a synthetic trial, as data.

A `Scenario` is a frozen, hashable tree of small dataclasses, one per component, read from TOML. A component that is
absent is not simulated. `simulate` draws a trial from it; `kapstats.simulation.truth` computes what is true of it.
"""

from __future__ import annotations

import dataclasses
import numbers
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kapstats.data import notation
from kapstats.errors import DataError, nearest

if TYPE_CHECKING:
    from kapstats.data.trial import Trial

Pairs = tuple[tuple[str, Any], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One arm: what is given, and how outcomes differ from the reference arm (the first)."""

    label: str
    code: int
    route: str = "PLACEBO"
    drug: str = "PLACEBO"
    dose: float = 0.0
    """mg, or mg/kg when `per_kg`"""
    per_kg: bool = False
    sprays: int = 1
    allocation: int = 1
    effect: float = 0.0
    """points of change added to the reference arm at full onset (negative is better on symptom scales)"""
    hazard_ratio: float = 1.0
    """of relapse, against the reference arm"""
    late_hazard_ratio: float | None = None
    """after `Relapse.change_day`, when hazards are not proportional"""
    leaving: float = 0.0
    """log odds of leaving at each visit, added to `Dropout.intercept`"""
    profile: tuple[float, ...] = ()
    """points of change added at each visit, instead of `effect` times `Response.onset` (a crossover sequence)"""
    believes: float | None = None
    """probability that a subject of the arm believes to have been given the drug (at no exposure, when
    `Response.unblinding` lets the belief follow what was felt)"""
    stopping: float = 1.0
    """hazard ratio of stopping treatment in the follow-up for relapse, against the reference arm"""
    later: str = ""
    """what the arm receives in the second period of a crossover"""
    female: float = 0.0
    """log odds of being given this arm, for women (a registry: treatment by indication, not at random)"""
    older: float = 0.0
    """the same for those aged 45 or more"""
    factors: Pairs = ()
    """columns of ADSL that describe the arm (a factorial design, a dose)"""


@dataclass(frozen=True, slots=True, kw_only=True)
class People:
    """Who takes part, and where."""

    sites: int = 8
    therapists: int = 2
    """per site"""
    age_mean: float = 46.0
    age_sd: float = 11.5
    female: float = 0.66
    weight_mean: float = 80.0
    weight_sd: float = 16.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Dosing:
    """Sessions (days since the first dose) and the infusion time in minutes."""

    days: tuple[int, ...] = (0, 7, 14, 21)
    infusion_minutes: float = 40.0
    spray_gap: float = 5.0
    between_session_sd: float = 0.15
    """SD on the log scale of a session's concentration about the subject's own"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """A symptom score at baseline and visits: integer, within the scale, covariance free at every visit."""

    parameter: str = "MADRS"
    label: str = "MADRS Total Score"
    low: int = 0
    high: int = 60
    entry: int = 28
    """lowest baseline score that may enter"""
    baseline_mean: float = 37.0
    baseline_sd: float = 5.9
    """of the normal distribution before truncation at `entry`"""
    days: tuple[int, ...] = (1, 7, 14, 21, 28)
    reference_change: tuple[float, ...] = (-6.5, -9.5, -12.0, -14.0, -15.0)
    onset: tuple[float, ...] = (0.85, 0.95, 1.0, 1.0, 1.0)
    """share of an arm's full effect that is reached at each visit"""
    periods: tuple[int, ...] = ()
    """period of each visit, in a crossover"""
    sd: tuple[float, ...] = (8.5, 9.8, 10.8, 11.5, 12.0)
    """of the score at each visit"""
    correlation: tuple[tuple[float, ...], ...] = ()
    """lower triangle without the diagonal, baseline first"""
    site_sd: float = 0.0
    therapist_sd: float = 0.0
    carryover_days: float = 7.0
    """half-life of the drug effect after treatment is stopped"""
    expectancy: float = 0.0
    """points of change added for those who believe that they were given the drug"""
    exposure: float = 0.0
    """points of change at full onset per unit of log(1 + Cmax / 50) in the subject's own typical session: the part of
    a route's effect that goes through concentration, beside the direct part `Arm.effect`"""
    unblinding: float = 0.0
    """log odds of believing to have been given the drug, per unit of log(1 + Cmax / 50)"""
    female: float = 0.0
    """points of change added for women; with treatment by indication, a confounder"""
    older: float = 0.0
    """the same for those aged 45 or more"""
    response_fraction: float = 0.5
    """fall from baseline that counts as response"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropout:
    """Leaving for good, and visits missed in between.

    The log odds of leaving before a visit are ``intercept + Arm.leaving + slope (change - reference) / 10``, where the
    change is the last one observed (MAR), the one about to be missed (MNAR), or has no influence (MCAR).
    """

    mechanism: str = "MAR"
    intercept: float = -4.2
    slope: float = 0.4
    gap: float = 0.02
    """probability that a visit after baseline is missed by one who stays"""
    retained: float = 0.0
    """share of those who stop treatment that is still assessed, off treatment"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Relapse:
    """Relapse after response: a Weibull time, seen only at visits and confirmed at the next one."""

    origin: str = "response"
    """"response" (responders, from the last visit of `Response`) or "randomisation" (everyone)"""
    median_days: float = 45.0
    """in the reference arm"""
    shape: float = 1.0
    change_day: float | None = None
    visit_days: tuple[int, ...] = (7, 14, 21, 28, 35, 42, 49, 56, 63, 70, 77, 84)
    threshold: int = 22
    missed: float = 0.04
    leave_per_visit: float = 0.012
    tau: float = 77.0
    milestones: tuple[float, ...] = (28.0, 56.0)
    site_sd: float = 0.0
    """SD between sites of the log hazard"""
    therapist_sd: float = 0.0
    """SD between the therapists of a site of the log hazard"""
    stop_median_days: float | None = None
    """median days to stopping treatment in the reference arm, a competing event that ends the follow-up"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """One adverse event: per-session log odds ``base + slope log(1 + Cmax/50) + local + attenuation (session - 1)``."""

    soc: str
    pt: str
    base: float
    slope: float = 0.0
    local: Pairs = ()
    """route -> log odds that act at the site of administration, not through concentration"""
    background: bool = False
    """an event of daily life: not tied to the hours after a session"""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdverseEvents:
    """Adverse events driven by exposure, so that the effect of a route is known and partly mediated."""

    terms: tuple[Term, ...] = ()
    tendency_sd: float = 0.9
    """SD between subjects on the log-odds scale, shared by all terms"""
    female: float = 0.0
    """log odds added for women"""
    older: float = 0.0
    """log odds added for those aged 45 or more"""
    attenuation: float = -0.12
    onset_share: float = 0.4
    """median onset as a share of the time to peak concentration"""
    duration_minutes: float = 55.0
    long_share: float = 0.05
    """share of events that outlast the day"""
    serious: float = 0.006


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """Dissociation (CADSS) and systolic pressure over the minutes after a session's start."""

    minutes: tuple[int, ...] = (0, 40, 90, 240)
    sessions: tuple[int, ...] = (1, 4)
    cadss_gain: float = 0.13
    """points per ng/mL for the median subject"""
    cadss_sd: float = 0.55
    """SD between subjects of the log gain"""
    cadss_attenuation: float = 0.88
    """factor per session"""
    cadss_floor: float = 0.6
    sbp_mean: float = 124.0
    sbp_sd: float = 12.0
    sbp_gain: float = 0.085
    """mmHg per ng/mL"""
    sbp_noise: float = 7.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A synthetic trial as data: arms and components; see the TOML files beside this module for complete examples.

    Examples
    --------
    >>> scenario = load("kap-parallel")
    >>> scenario.arms[1].route, scenario.subjects
    ('INTRAVENOUS', 240)
    >>> scenario.change(dropout={"gap": 0.0}).dropout.gap
    0.0
    """

    name: str
    title: str = ""
    design: str = "parallel"
    subjects: int = 240
    arms: tuple[Arm, ...]
    people: People = People()
    dosing: Dosing | None = None
    response: Response | None = None
    dropout: Dropout | None = None
    relapse: Relapse | None = None
    adverse_events: AdverseEvents | None = None
    course: Course | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Components may be given as mappings, arms as a list of them."""
        for name, hint in _hints(Scenario).items():
            given = getattr(self, name)
            if isinstance(given, list | Mapping) or (name == "arms" and any(isinstance(a, Mapping) for a in given)):
                object.__setattr__(self, name, _convert(hint, given, None, f"{self.name}.{name}"))

    def change(self, **changes: Any) -> Scenario:
        """The scenario with fields replaced; a mapping is merged into the component of that name, None removes it."""
        return merge(self, changes, self.name)

    def null(self) -> Scenario:
        """The twin in which no arm differs from the reference in anything that is measured."""
        first = self.arms[0]
        shared = ("effect", "hazard_ratio", "late_hazard_ratio", "leaving", "believes", "stopping")
        same = {k: getattr(first, k) for k in shared}
        arms = tuple(dataclasses.replace(a, profile=(), **same) for a in self.arms)
        events, course, response = self.adverse_events, self.course, self.response
        if response is not None:
            response = dataclasses.replace(response, exposure=0.0, unblinding=0.0)
        if events is not None:
            terms = tuple(dataclasses.replace(t, slope=0.0, local=()) for t in events.terms)
            events = dataclasses.replace(events, terms=terms)
        if course is not None:
            course = dataclasses.replace(course, cadss_gain=0.0, sbp_gain=0.0)
        name, title = f"{self.name}-null", f"{self.title} (null twin: no effect anywhere)"
        twin = dataclasses.replace(self, name=name, title=title, arms=arms, response=response)
        return dataclasses.replace(twin, adverse_events=events, course=course)

    @property
    def reference(self) -> Arm:
        """The first arm, against which every contrast of the truth is taken."""
        return self.arms[0]


def _component(annotation: Any) -> type | None:
    """The dataclass an annotation stands for (X or X | None), if any."""
    options = typing.get_args(annotation) if isinstance(annotation, types.UnionType) else (annotation,)
    return next((t for t in options if isinstance(t, type) and dataclasses.is_dataclass(t)), None)


def _plain(value: Any) -> Any:
    """Lists as tuples and mappings as pairs, so that the result can be hashed."""
    if isinstance(value, list | tuple):
        return tuple(_plain(v) for v in value)
    return tuple((k, _plain(v)) for k, v in value.items()) if isinstance(value, Mapping) else value


def _convert(annotation: Any, value: Any, old: Any, where: str) -> Any:
    inner = _component(annotation)
    if inner is not None and isinstance(value, Mapping):
        return merge(old, value, where) if old is not None else build(inner, value, where)
    members = typing.get_args(annotation)
    item = _component(members[0]) if typing.get_origin(annotation) is tuple and members else None
    if item is not None and isinstance(value, Iterable):
        value = [build(item, v, where) if isinstance(v, Mapping) else v for v in value]
    plain = _plain(value)
    if not _fits(annotation, plain):
        raise DataError(f"{where} = {value!r}: expected {_said(annotation)}.")
    return plain


def _fits(annotation: Any, value: Any) -> bool:
    """Whether a plain value is what the annotation says; a whole number is a number, true and false are none."""
    members = typing.get_args(annotation)
    if isinstance(annotation, types.UnionType):
        return any(_fits(m, value) for m in members)
    if typing.get_origin(annotation) is tuple:
        items = (members[0],) * len(value) if members[-1] is ... and isinstance(value, tuple) else members
        return isinstance(value, tuple) and len(value) == len(items) and all(map(_fits, items, value))
    if annotation in (int, float):
        kind = numbers.Integral if annotation is int else numbers.Real
        return isinstance(value, kind) and not isinstance(value, bool)
    return annotation is Any or isinstance(value, annotation)


def _said(annotation: Any) -> str:
    """The annotation in words."""
    members = typing.get_args(annotation)
    if isinstance(annotation, types.UnionType):
        return " or ".join(_said(m) for m in members if m is not type(None))
    if typing.get_origin(annotation) is tuple:
        return f"a list of {_said(members[0])}" if members[-1] is ... else "a pair"
    words = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
    return words.get(annotation) or f"the table {annotation.__name__}"


@cache
def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _check(cls: type, values: Mapping[str, Any], where: str) -> dict[str, Any]:
    hints = _hints(cls)
    for name in values:
        if name not in hints:
            raise DataError(f"{where}: {cls.__name__} has no {name!r}.{nearest(name, hints)}")
    return hints


def build(cls: type, values: Mapping[str, Any], where: str) -> Any:
    """`cls` from a mapping as TOML gives it; an unknown name is an error that tells the nearest one."""
    hints = _check(cls, values, where)
    required = [f.name for f in dataclasses.fields(cls) if f.default is f.default_factory is dataclasses.MISSING]
    if missing := [name for name in required if name not in values]:
        raise DataError(f"{where}: {cls.__name__} needs {', '.join(missing)}.")
    return cls(**{k: _convert(hints[k], v, None, f"{where}.{k}") for k, v in values.items()})


def merge(old: Any, changes: Mapping[str, Any], where: str) -> Any:
    """`old` with `changes`, nested mappings merged into nested components."""
    hints = _check(type(old), changes, where)
    new = {k: _convert(hints[k], v, getattr(old, k), f"{where}.{k}") for k, v in changes.items()}
    return dataclasses.replace(old, **new)


def names() -> list[str]:
    """The scenarios that come with the library, null twins included."""
    folder = resources.files("kapstats.simulation") / "scenarios"
    own = sorted(p.name.removesuffix(".toml") for p in folder.iterdir() if p.name.endswith(".toml"))
    return [name for stem in own for name in (stem, f"{stem}-null")]


def text(name: str) -> str:
    """The TOML source of a built-in scenario."""
    folder = resources.files("kapstats.simulation") / "scenarios"
    return (folder / f"{name}.toml").read_text(encoding="utf-8")


def load(name: str) -> Scenario:
    """A built-in scenario by name, or one from a TOML file; ``<name>-null`` is its null twin."""
    return _written(Path(name)) if name.endswith(".toml") else _built_in(name)


def _written(path: Path) -> Scenario:
    """The scenario in a TOML file, as it is now."""
    try:
        content = notation.toml(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        said = error.strerror if isinstance(error, OSError) else error
        raise DataError(f"{path}: cannot be read as a scenario in TOML ({said}).") from error
    return build(Scenario, content, str(path))


@cache
def _built_in(name: str) -> Scenario:
    if name not in names():
        raise DataError(f"There is no scenario {name!r}.{nearest(name, names())} Known: {', '.join(names())}.")
    scenario = build(Scenario, notation.toml(text(name.removesuffix("-null"))), name)
    return scenario.null() if name.endswith("-null") else scenario


def resolve(scenario: str | Path | Scenario) -> Scenario:
    """A scenario given by name, by its file or as itself."""
    return scenario if isinstance(scenario, Scenario) else load(str(scenario))


def simulate(
    scenario: str | Path | Scenario,
    n: int | None = None,
    seed: int = 1,
    *,
    replicate: int = 0,
    truth: bool = True,
    **changes: Any,
) -> Trial:
    """Draw a synthetic trial whose truth is known.

    Parameters
    ----------
    scenario : name of a built-in scenario, path of a TOML file, or a `Scenario`
    n : number of subjects; the scenario's own when None
    seed : entropy of the random streams; the same seed gives the same trial everywhere
    replicate : which of the seed's independent trials
    truth : whether `Trial.truth` is computed (closed form and potential outcomes); None otherwise
    **changes : fields of the scenario to replace; a mapping is merged into the component of that name

    Returns
    -------
    Trial
        ADaM data sets and, in ``truth``, the value of every estimand.

    Raises
    ------
    DataError
        for an unknown scenario, component or field, a negative number of subjects, or a negative seed.

    Examples
    --------
    >>> trial = simulate("kap-parallel", n=60, seed=2, truth=False)
    >>> len(trial.adsl)
    60
    """
    from kapstats.simulation.adam import assemble
    from kapstats.simulation.draw import draw

    if (n is not None and n < 0) or seed < 0:
        raise DataError(f"simulate: n={n}, seed={seed}; neither may be negative.")
    chosen = resolve(scenario).change(**changes) if changes else resolve(scenario)
    return assemble(draw(chosen, n=n, seed=seed, replicate=replicate), truth=truth)
