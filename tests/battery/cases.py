"""One entry per exported verb: how it is called on a table that a user has, and what is then asked of its answer.

To add a verb is to add a `Case`: the checks of `checks_*.py` apply themselves to it by what the entry says.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import pandas as pd

import kapstats as ks
from tests.battery import tables


class Days(float):
    """A time in a question, so that a check can ask it in other units or past follow-up."""


def days(*times: float) -> list[Days]:
    return [Days(t) for t in times]


def _timed(value: Any, how: Callable[[Days], Any]) -> Any:
    if isinstance(value, Days):
        return how(value)
    return [_timed(v, how) for v in value] if isinstance(value, list) else value


@dataclass(frozen=True)
class Ask:
    """A question to a result: methods called one after the other, ``ask("lsmeans", "TRT01P").then("contrast")``."""

    path: tuple[tuple[str, tuple[Any, ...], dict[str, Any]], ...]

    def then(self, method: str, *args: Any, **options: Any) -> Ask:
        return Ask((*self.path, (method, args, options)))

    def __call__(self, result: Any, **options: Any) -> Any:
        """The answer; `options` (a level) go to the last method that takes them."""
        for method, args, own in self.path:
            member = getattr(result, method)
            if not inspect.ismethod(member):
                result = member
                continue
            known = inspect.signature(member).parameters
            result = member(*args, **own, **{k: v for k, v in options.items() if k in known})
        return result

    def timed(self, how: Callable[[Days], Any]) -> Ask:
        """The question with its times changed."""
        steps = (
            (m, tuple(_timed(a, how) for a in args), {k: _timed(v, how) for k, v in o.items()})
            for m, args, o in self.path
        )
        return Ask(tuple(steps))

    def takes(self, result: Any, option: str) -> bool:
        """Whether one of the methods has `option`."""
        for method, args, own in self.path:
            member = getattr(result, method)
            if inspect.ismethod(member) and option in inspect.signature(member).parameters:
                return True
            result = member(*args, **own) if inspect.ismethod(member) else member
        return False

    @property
    def name(self) -> str:
        return ".".join(method for method, _, _ in self.path)


def ask(method: str, *args: Any, **options: Any) -> Ask:
    return Ask(((method, args, options),))


@dataclass(frozen=True, kw_only=True)
class Case:
    """How one verb is called, and what a check must know about it.

    verb : exported name; name : id where a verb has several cases
    call : takes the tables by keyword, and options of the verb
    data : keyword of `call` to name of a table; several for a trial
    uses : columns that the call names, by keyword where there are several tables
    asks : questions to the result whose answers are checked with it
    arm : column of the arms, the levels of which may be exchanged; its companion states the order
    swap : pairs of columns whose exchange exchanges the groups (verbs of counts)
    times, scores : columns in units of time, and of the outcome
    ids : column of subjects
    outcome : columns of the outcome
    weights : column that `weights=` takes
    cell : columns (arm, visit) one combination of which may be emptied
    heavy : seconds rather than milliseconds: only the cheap checks
    rowwise : the answer has one row per row of the table
    carries : the answer carries along columns of the table that the call does not name
    exchange : False where the arms have roles (a reference that is named)
    beyond : questions that must not be answered past follow-up; `Days` in them are moved there
    shares : names of answers that are probabilities
    counted : names of answers that are counts, which weights multiply
    axis : what the figure's axes must say
    precision : relative, of what an iterative fit promises
    copies : options under which a weight is a number of copies (Efron's correction is not)
    ignores : options that have no meaning in this call
    rest : every column of the table says something, whatever it is called
    wraps : intervals that go through infinity (numbers needed to treat)
    """

    verb: str
    call: Callable[..., Any]
    data: Mapping[str, str] = field(default_factory=dict)
    uses: tuple[str, ...] = ()
    asks: tuple[Ask, ...] = ()
    name: str = ""
    arm: str = ""
    swap: tuple[tuple[str, str], ...] = ()
    times: tuple[str, ...] = ()
    scores: tuple[str, ...] = ()
    ids: str = ""
    outcome: tuple[str, ...] = ()
    weights: str = ""
    cell: tuple[str, ...] = ()
    survival: bool = False
    heavy: bool = False
    rowwise: bool = False
    frozen: bool = True
    carries: bool = False
    exchange: bool = True
    beyond: tuple[Ask, ...] = ()
    shares: tuple[str, ...] = ()
    counted: tuple[str, ...] = ()
    axis: str = ""
    precision: float = 1e-9
    copies: Mapping[str, Any] = field(default_factory=dict)
    ignores: tuple[str, ...] = ()
    wraps: bool = False
    rest: bool = False

    def asking(self, asks: tuple[Ask, ...]) -> Case:
        """The case with other questions."""
        return replace(self, asks=asks)

    def quick(self) -> Case:
        """The case with its first questions only: enough to see that the same data came in."""
        return self.asking(self.asks[:3])

    def answered(self, result: Any) -> Case:
        """The case whose call gives `result`."""
        return replace(self, call=lambda **_: result)

    @property
    def id(self) -> str:
        return self.name or self.verb

    @cached_property
    def tables(self) -> dict[str, pd.DataFrame]:
        return {key: tables.table(name) for key, name in self.data.items()}

    @cached_property
    def used(self) -> dict[str, list[str]]:
        """Columns that the call names, by keyword of the table."""
        return {key: [c for c in frame.columns if c in self.uses] for key, frame in self.tables.items()}


S = "Surv(AVAL, CNSR == 0) ~ TRT01P"
ARM = ("TRT01P", "TRT01PN")
VISITS = ("CHG", "BASE", *ARM, "AVISIT", "AVISITN", "USUBJID")
RELAPSE = ("AVAL", "CNSR", *ARM, "USUBJID")
MODEL = "CHG ~ BASE + TRT01P*AVISIT"
MMRM = f"{MODEL} + us(AVISIT | USUBJID)"
MEANS = ask("lsmeans", "TRT01P", by="AVISIT")
PATHS = ("ASTDY", "AENDY", "STATE", "EVENT", *ARM, "USUBJID")


def model(verb: str, call: Callable[..., Any], *asks: Ask, **more: Any) -> Case:
    """A model of the change by visit."""
    settings = {
        "data": {"data": "visits"},
        "uses": VISITS,
        "arm": "TRT01P",
        "scores": ("CHG", "BASE"),
        "ids": "USUBJID",
    }
    return Case(
        verb=verb, call=call, asks=asks, **(settings | {"outcome": ("CHG",), "cell": ("TRT01P", "AVISIT")} | more)
    )


def survival(verb: str, call: Callable[..., Any], *asks: Ask, uses: tuple[str, ...] = RELAPSE, **more: Any) -> Case:
    """A verb of times to an event."""
    settings = {
        "data": {"data": "relapse"},
        "arm": "TRT01P",
        "times": ("AVAL",),
        "ids": "USUBJID",
        "outcome": ("AVAL",),
    }
    return Case(verb=verb, call=call, asks=asks, uses=uses, survival=True, **(settings | more))


def of_counts(verb: str, *columns: str, swap: bool = True, table: str = "counts", **options: Any) -> Case:
    """A verb of counts in columns of a table."""
    function = getattr(ks, verb)
    pairs = {"x1": "x2", "n1": "n2", "t1": "t2", "first": "second"}
    swaps = tuple((a, b) for a, b in pairs.items() if a in columns and b in columns) if swap else ()
    return Case(
        verb=verb,
        call=lambda data, **o: function(*columns, data=data, **(options | o)),
        data={"data": table},
        uses=(*columns, *(v for v in options.values() if isinstance(v, str) and v in tables.table(table))),
        swap=swaps,
        outcome=tuple(columns),
    )


def trial(**datasets: Any) -> ks.Trial:
    return ks.Trial(**datasets)


def events(adsl: Any, adae: Any, **options: Any) -> Any:
    return ks.incidence(trial(adsl=adsl, adae=adae), **options)


AE = {"adsl": "adsl", "adae": "adae"}
AE_USES = (
    "USUBJID",
    "TRT01A",
    "TRT01AN",
    "SAFFL",
    "AEBODSYS",
    "AEDECOD",
    "TRTEMFL",
    "SITEID",
    "TRTSDT",
    "TRTEDT",
    "AESEV",
)
AE_USES = (
    *AE_USES,
    "ASTDY",
    "AENDY",
    "ASTDTM",
    "AENDTM",
    "AESER",
    "AEREL",
    "NSESS",
    "AGE",
    "SEX",
    "ASEVN",
    "EOSDY",
    "ONSETMIN",
    "DURMIN",
    "SESSION",
)


def safety(verb: str, call: Callable[..., Any], *asks: Ask, **more: Any) -> Case:
    """A verb of adverse events and the subjects at risk."""
    settings = {"data": AE, "uses": AE_USES, "arm": "TRT01A", "ids": "USUBJID"}
    return Case(verb=verb, call=call, asks=asks, **(settings | more))


IMPUTED = {"arm": "TRT01P", "reference": "Placebo", "strategy": "J2R"}
VISIT_MODEL = "CHG ~ BASE*AVISIT + TRT01P*AVISIT + us(AVISIT | USUBJID)"
GUESSES = {"KAP IV": [12, 6, 6], "Placebo": [7, 9, 8]}
CANDIDATES = {"linear": ("linear", {}), "steep": ("emax", {"ed50": 15.0})}
PLAN = """
[study]
title = "Battery"
[[analysis]]
kind = "mmrm"
name = "madrs"
title = "Change"
where = ["AVISITN > 0"]
formula = "CHG ~ BASE + TRT01P*AVISIT + us(AVISIT | USUBJID)"
[[analysis]]
kind = "survival"
name = "relapse"
title = "Relapse"
formula = "Surv(AVAL, CNSR == 0) ~ TRT01P"
"""


def folder(data: Any, ending: str = "csv") -> Any:
    """`data` as a file in a folder of its own."""
    import tempfile
    from pathlib import Path

    path = Path(tempfile.mkdtemp()) / f"adsl.{ending}"
    pd.DataFrame(data).to_csv(path, index=False)
    return path


def plan(**datasets: Any) -> Any:
    import tempfile
    from pathlib import Path

    out = Path(tempfile.mkdtemp())
    (out / "plan.toml").write_text(PLAN)
    return ks.run(out / "plan.toml", trial(**datasets), out / "out")


CASES: tuple[Case, ...] = (
    # response
    model(
        "mmrm",
        lambda data, **o: ks.mmrm(MMRM, data, **o),
        MEANS,
        MEANS.then("contrast"),
        ask("anova"),
        ask("anova", type=2),
        ask("coefficients"),
        ask("covariance"),
        ask("loglik"),
        ask("aic"),
        weights="W",
    ),
    model(
        "mmrm",
        lambda data, **o: ks.mmrm(f"{MODEL} + ar1(AVISIT | USUBJID)", data, **o),
        MEANS,
        name="mmrm-ar1",
        weights="W",
    ),
    model(
        "MmrmStatistics",
        lambda data, **o: ks.MmrmStatistics.from_data(MMRM, data).fit(**o),
        MEANS.then("contrast"),
        name="MmrmStatistics",
    ),
    model(
        "lmm",
        lambda data, **o: ks.lmm(f"{MODEL} + (1 | USUBJID)", data, **o),
        MEANS,
        MEANS.then("contrast"),
        ask("anova"),
        ask("anova", type=2),
        ask("coefficients"),
        ask("variance_components"),
        ask("icc"),
        ask("loglik"),
        weights="W",
    ),
    model(
        "glmm",
        lambda data, **o: ks.glmm("RESP ~ BASE + TRT01P*AVISIT + (1 | USUBJID)", data, **o),
        MEANS,
        MEANS.then("contrast"),
        ask("marginal_means", "TRT01P", by="AVISIT"),
        ask("anova"),
        ask("coefficients"),
        ask("loglik"),
        uses=("RESP", *VISITS[1:]),
        outcome=("RESP",),
        scores=("BASE",),
        precision=1e-6,
        shares=("marginal_means",),
    ),
    model(
        "ancova",
        lambda data, **o: ks.ancova("CHG ~ BASE + TRT01P", data, **o),
        ask("lsmeans", "TRT01P"),
        ask("lsmeans", "TRT01P").then("contrast"),
        ask("anova"),
        ask("coefficients"),
        ask("hodges_lehmann", "TRT01P"),
        ask("rank_test", "TRT01P"),
        data={"data": "endpoint"},
        cell=(),
        weights="W",
    ),
    model(
        "ancova",
        lambda data, **o: ks.ancova("CHG ~ BASE + TRT01P*SEX", data, visit="AVISIT", at="Day 28", **o),
        ask("lsmeans", "TRT01P", by="SEX"),
        ask("lsmeans", "TRT01P").then("contrast"),
        ask("anova"),
        ask("anova", type=2),
        name="ancova-visit",
        uses=(*VISITS, "SEX"),
        cell=("TRT01P", "SEX"),
    ),
    model(
        "gee",
        lambda data, **o: ks.gee("RESP ~ BASE + TRT01P*AVISIT + cluster(USUBJID)", data, **o),
        MEANS,
        MEANS.then("contrast"),
        ask("anova"),
        ask("coefficients"),
        uses=("RESP", *VISITS[1:]),
        outcome=("RESP",),
        scores=("BASE",),
    ),
    Case(
        verb="crossover",
        call=lambda data, **o: ks.crossover(
            data, response="CHG", subject="USUBJID", period="APERIOD", treatment="TRTP", **o
        ),
        data={"data": "periods"},
        uses=("CHG", "USUBJID", "APERIOD", "TRTP", "TRTPN"),
        asks=(ask("treatment"), ask("tests"), ask("carry_over"), ask("first_period")),
        arm="TRTP",
        scores=("CHG",),
        ids="USUBJID",
        outcome=("CHG",),
    ),
    model(
        "impute",
        lambda data, **o: ks.impute(data, formula=VISIT_MODEL, **IMPUTED, **o),
        ask("values"),
        ask("analyse", "TRT01P", replicates=20),
        data={"data": "planned"},
        heavy=True,
        cell=(),
    ),
    model(
        "tipping_point",
        lambda data, **o: ks.tipping_point(
            ks.impute(data, formula=VISIT_MODEL, **IMPUTED), [0.0, 4.0], arm="KAP IV", replicates=25, **o
        ),
        data={"data": "planned"},
        heavy=True,
        cell=(),
    ),
    model(
        "ImputationPlan",
        lambda data, **o: ks.impute(
            data, ks.ImputationPlan(formula=VISIT_MODEL, arm="TRT01P", reference="Placebo"), **o
        ),
        ask("analyse", "TRT01P", replicates=20),
        data={"data": "planned"},
        heavy=True,
        cell=(),
    ),
    Case(
        carries=True,
        verb="Estimand",
        call=lambda visits, stops, **o: ks.Estimand(
            "KAP v placebo", "all", "CHG", {"rescue": "hypothetical"}, **o
        ).apply(visits, stops),
        data={"visits": "visits", "stops": "stops"},
        uses=("USUBJID", "AVISIT", "AVISITN", "CHG", "ICE", "ICEVISIT"),
        ids="USUBJID",
        rowwise=True,
        frozen=False,
    ),
    Case(
        verb="intercurrent_events",
        call=lambda adsl, visits, occurrences, **o: ks.intercurrent_events(adsl, occurrences, visits=visits, **o),
        data={"adsl": "adsl", "visits": "visits", "occurrences": "occurrences"},
        uses=("USUBJID", "EOSSTT", "DCSREAS", "EOSDY", "AVISIT", "AVISITN", "ADY", "ICECAT", "ASTDY"),
        ids="USUBJID",
        frozen=False,
    ),
    Case(
        verb="principal_effect",
        call=lambda data, **o: ks.principal_effect(
            data, "CHG", arm="TRT01P", event="STOPPED", covariates="BASE", replicates=20, **o
        ),
        data={"data": "endpoint"},
        uses=("CHG", "BASE", *ARM, "STOPPED"),
        arm="TRT01P",
        outcome=("CHG",),
        heavy=True,
    ),
    Case(
        verb="blinding_index",
        call=lambda data, **o: ks.blinding_index(data, arm="TRT01P", guess="GUESS", **o),
        data={"data": "endpoint"},
        uses=(*ARM, "GUESS"),
        outcome=("GUESS",),
    ),
    Case(
        verb="effect_by_guess",
        call=lambda data, **o: ks.effect_by_guess(data, "CHG", arm="TRT01P", guess="GUESS", covariates=["BASE"], **o),
        data={"data": "endpoint"},
        uses=("CHG", "BASE", *ARM, "GUESS"),
        arm="TRT01P",
        scores=("CHG", "BASE"),
        outcome=("CHG",),
    ),
    Case(
        verb="expectancy_bound",
        call=lambda data, **o: ks.expectancy_bound(
            ks.ancova("CHG ~ BASE + TRT01P", data).lsmeans("TRT01P").contrast(), GUESSES, [0, -2], **o
        ),
        data={"data": "endpoint"},
        uses=("CHG", "BASE", *ARM),
        outcome=("CHG",),
    ),
    Case(
        verb="missing_patterns",
        call=lambda data, **o: ks.missing_patterns(data, **o),
        data={"data": "planned"},
        uses=("CHG", *ARM, "AVISIT", "AVISITN", "USUBJID"),
        ids="USUBJID",
        outcome=("CHG",),
    ),
    Case(
        verb="dropout_reasons",
        call=lambda data, adsl, **o: ks.dropout_reasons(data, adsl, **o),
        data={"data": "planned", "adsl": "adsl"},
        uses=("CHG", *ARM, "AVISIT", "AVISITN", "USUBJID", "DCSREAS"),
        ids="USUBJID",
        outcome=("CHG",),
    ),
    Case(verb="response_bounds", call=lambda **o: ks.response_bounds(10, 20, 25, **o)),
    model(
        "separation",
        lambda data, **o: ks.separation(ks.mmrm(MMRM, data).lsmeans("TRT01P", by="AVISIT").contrast(), "AVISIT", **o),
        cell=(),
    ),
    Case(
        verb="time_to_response",
        call=lambda data, **o: ks.time_to_response(data, threshold=20.0, **o),
        data={"data": "visits"},
        uses=("USUBJID", "ADY", "AVAL", "BASE", *ARM),
        ids="USUBJID",
        outcome=("AVAL",),
        frozen=False,
    ),
    Case(
        verb="onset_curve",
        call=lambda data, **o: ks.onset_curve(data, [1, 7, 14, 28], **o),
        data={"data": "doses"},
        uses=("estimate", "std_error"),
        scores=("estimate", "std_error"),
        outcome=("estimate",),
    ),
    Case(
        verb="dose_response",
        call=lambda data, **o: ks.dose_response(data, "DOSE", models=["linear", "emax"], draws=20, **o),
        data={"data": "doses"},
        uses=("TRT01P", "estimate", "std_error", "DOSE"),
        asks=(ask("models"), ask("coefficients"), ask("predict", [10.0, 50.0]), ask("target_dose", -4.0)),
        scores=("estimate", "std_error"),
        outcome=("estimate",),
        heavy=True,
    ),
    Case(
        verb="mcp_mod",
        call=lambda data, **o: ks.mcp_mod(data, "DOSE", CANDIDATES, **o),
        data={"data": "doses"},
        uses=("TRT01P", "estimate", "std_error", "DOSE"),
        scores=("estimate", "std_error"),
        outcome=("estimate",),
    ),
    # relapse
    survival(
        "kaplan_meier",
        lambda data, **o: ks.kaplan_meier(S, data, **o),
        ask("estimates"),
        ask("median"),
        ask("quantile", [0.25, 0.5]),
        ask("at", days(30, 90)),
        ask("at_risk", days(30, 90)),
        ask("milestone", days(90)),
        ask("median_difference"),
        ask("summary"),
        ask("hazard"),
        weights="W",
        beyond=(ask("at", days(1)), ask("milestone", days(1))),
        shares=("estimates", "at"),
        counted=("at_risk",),
        axis="surviv|free|without|event-free",
    ),
    survival("logrank", lambda data, **o: ks.logrank(S, data, **o)),
    survival(
        "logrank", lambda data, **o: ks.logrank(S, data, weights="max-combo", **o), name="logrank-combo", heavy=True
    ),
    survival(
        "cox",
        lambda data, **o: ks.cox(f"{S} + AGE", data, **o),
        ask("coefficients"),
        ask("hazard_ratios"),
        ask("tests"),
        ask("anova"),
        ask("zph"),
        ask("baseline"),
        ask("survival", {"TRT01P": ["Placebo", "KAP IV"], "AGE": [40.0, 50.0]}, days(30, 90)),
        ask("concordance"),
        ask("loglik"),
        uses=(*RELAPSE, "AGE"),
        weights="W",
        beyond=(ask("survival", {"TRT01P": ["Placebo"], "AGE": [40.0]}, days(1)),),
        shares=("survival",),
        copies={"ties": "breslow"},
        axis="hazard",
    ),
    survival(
        "cox",
        lambda data, **o: ks.cox("Surv(ENTRY, AVAL, CNSR == 0) ~ TRT01P + strata(SEX)", data, **o),
        ask("hazard_ratios"),
        ask("tests"),
        name="cox-entry",
        uses=(*RELAPSE, "ENTRY", "SEX"),
        times=("AVAL", "ENTRY"),
    ),
    survival(
        "cox",
        lambda data, **o: ks.cox(f"{S} + frailty(SITEID)", data, **o),
        ask("hazard_ratios"),
        name="cox-frailty",
        uses=(*RELAPSE, "SITEID"),
    ),
    survival("rmst", lambda data, **o: ks.rmst(S, data, tau=150.0, **o), weights="W", times=()),
    survival("win_ratio", lambda data, **o: ks.win_ratio(S, data, **o)),
    survival(
        "parametric_survival",
        lambda data, **o: ks.parametric_survival(S, data, **o),
        ask("coefficients"),
        ask("hazard_ratios"),
        ask("time_ratios"),
        ask("predict", {"TRT01P": ["Placebo", "KAP IV"]}, type="survival", times=days(30, 90)),
        ask("aic"),
        weights="W",
    ),
    survival(
        "turnbull",
        lambda data, **o: ks.turnbull("Surv(LEFT, RIGHT, type='interval2') ~ TRT01P", data, **o),
        ask("estimates"),
        ask("median"),
        ask("at", days(30, 90)),
        ask("test"),
        uses=("LEFT", "RIGHT", *ARM),
        times=("LEFT", "RIGHT"),
        outcome=("LEFT", "RIGHT"),
        weights="W",
        beyond=(ask("at", days(1)),),
        shares=("estimates", "at"),
        axis="surviv|free|without",
    ),
    survival(
        "interval_cox",
        lambda data, **o: ks.interval_cox("Surv(LEFT, RIGHT, type='interval2') ~ TRT01P", data, conf="wald", **o),
        ask("coefficients"),
        ask("hazard_ratios"),
        ask("predict", {"TRT01P": ["Placebo", "KAP IV"]}, days(30, 90)),
        uses=("LEFT", "RIGHT", *ARM),
        times=("LEFT", "RIGHT"),
        outcome=("LEFT", "RIGHT"),
        heavy=True,
        beyond=(ask("predict", {"TRT01P": ["Placebo"]}, days(1)),),
        axis="hazard",
    ),
    survival(
        "cumulative_incidence",
        lambda data, **o: ks.cumulative_incidence(
            "Surv(AVAL, OUTCOME) ~ TRT01P", data, cause="relapse", censored="none", **o
        ),
        ask("estimates"),
        ask("at", days(30, 90)),
        ask("rmtl", Days(90)),
        uses=("AVAL", "OUTCOME", *ARM),
        beyond=(ask("at", days(1)), ask("rmtl", Days(1))),
        shares=("estimates", "at"),
        axis="incidence",
    ),
    survival(
        "cumulative_incidence",
        lambda data, **o: ks.cumulative_incidence("Surv(AVAL, CAUSE) ~ TRT01P", data, **o),
        ask("at", days(30, 90)),
        name="cumulative_incidence-codes",
        uses=("AVAL", "CAUSE", *ARM),
        weights="W",
        axis="incidence",
    ),
    survival(
        "gray_test",
        lambda data, **o: ks.gray_test("Surv(AVAL, OUTCOME) ~ TRT01P", data, cause="relapse", censored="none", **o),
        uses=("AVAL", "OUTCOME", *ARM),
    ),
    survival(
        "fine_gray",
        lambda data, **o: ks.fine_gray(
            "Surv(AVAL, OUTCOME) ~ TRT01P + AGE", data, cause="relapse", censored="none", **o
        ),
        ask("coefficients"),
        ask("hazard_ratios"),
        ask("baseline"),
        ask("predict", {"TRT01P": ["Placebo", "KAP IV"], "AGE": [40.0, 50.0]}, days(30, 90)),
        uses=("AVAL", "OUTCOME", *ARM, "AGE"),
        beyond=(ask("predict", {"TRT01P": ["Placebo"], "AGE": [40.0]}, days(1)),),
        axis="hazard",
    ),
    survival(
        "cause_specific",
        lambda data, **o: ks.cause_specific("Surv(AVAL, OUTCOME) ~ TRT01P + AGE", data, censored="none", **o),
        ask("coefficients"),
        ask("hazard_ratios"),
        ask("absolute_risk", {"TRT01P": ["Placebo", "KAP IV"], "AGE": [40.0, 50.0]}, days(30, 90)),
        uses=("AVAL", "OUTCOME", *ARM, "AGE"),
        beyond=(ask("absolute_risk", {"TRT01P": ["Placebo"], "AGE": [40.0]}, days(1)),),
        shares=("absolute_risk",),
    ),
    survival(
        "state_occupation",
        lambda data, **o: ks.state_occupation(
            "Surv(ASTDY, AENDY, STATE) ~ TRT01P", data, initial="ill", censored="none", **o
        ),
        ask("estimates"),
        ask("at", days(30, 90)),
        ask("mean_time", Days(90)),
        ask("transitions"),
        data={"data": "paths"},
        uses=PATHS,
        times=("ASTDY", "AENDY"),
        outcome=("STATE",),
        beyond=(ask("at", days(1)), ask("mean_time", Days(1))),
        shares=("estimates", "at"),
        axis="state|probab|occup",
    ),
    survival(
        "project_events",
        lambda data, **o: ks.project_events("Surv(AVAL, CNSR == 0) ~ 1", data, [0.0, 60.0], **o),
        uses=("AVAL", "CNSR"),
        arm="",
        times=(),
    ),
    survival(
        "recurrent",
        lambda data, **o: ks.recurrent("Surv(ASTDY, AENDY, EVENT) ~ TRT01P + AGE", data, **o),
        ask("coefficients"),
        ask("hazard_ratios"),
        data={"data": "episodes"},
        uses=(*PATHS, "AGE"),
        times=("ASTDY", "AENDY"),
        outcome=("EVENT",),
    ),
    survival(
        "recurrent",
        lambda data, **o: ks.recurrent(
            "Surv(ASTDY, AENDY, EVENT) ~ TRT01P + AGE", data, model="negative-binomial", **o
        ),
        ask("coefficients"),
        ask("rate_ratios"),
        name="recurrent-counts",
        data={"data": "episodes"},
        uses=(*PATHS, "AGE"),
        times=("ASTDY", "AENDY"),
        outcome=("EVENT",),
    ),
    survival(
        "mean_cumulative_function",
        lambda data, **o: ks.mean_cumulative_function("Surv(ASTDY, AENDY, EVENT) ~ TRT01P", data, **o),
        ask("estimates"),
        ask("at", days(30, 90)),
        ask("test"),
        data={"data": "episodes"},
        uses=PATHS,
        times=("ASTDY", "AENDY"),
        outcome=("EVENT",),
        beyond=(ask("at", days(1)),),
        axis="mean|number|per",
    ),
    Case(
        carries=True,
        ignores=("paramcd",),
        verb="derive_relapse",
        call=lambda data, **o: ks.derive_relapse(data, **o),
        data={"data": "scores"},
        uses=(
            "USUBJID",
            "PARAMCD",
            "AVAL",
            "BASE",
            "ADY",
            "AVISIT",
            "AVISITN",
            *ARM,
            "STUDYID",
            "SITEID",
            "PARAM",
            "CHG",
            "ABLFL",
        ),
        ids="USUBJID",
        outcome=("AVAL",),
        frozen=False,
    ),
    Case(
        carries=True,
        ignores=("paramcd",),
        verb="RelapseDefinition",
        call=lambda data, **o: ks.derive_relapse(data, ks.RelapseDefinition(threshold=18.0), **o),
        data={"data": "scores"},
        uses=(
            "USUBJID",
            "PARAMCD",
            "AVAL",
            "BASE",
            "ADY",
            "AVISIT",
            "AVISITN",
            *ARM,
            "STUDYID",
            "SITEID",
            "PARAM",
            "CHG",
            "ABLFL",
        ),
        ids="USUBJID",
        outcome=("AVAL",),
        frozen=False,
    ),
    Case(
        verb="GroupSequentialDesign",
        call=lambda **o: ks.GroupSequentialDesign((0.5, 1.0), events=100, **o),
        asks=(
            ask("boundaries"),
            ask("power", 0.6),
            ask("sample_size", 0.6),
            ask("analyse", [1.0, 2.4], [50, 100]),
            ask("analyse", [1.0, 2.4], [50, 100]).then("final"),
        ),
    ),
    survival(
        "weighted_logrank_combination",
        lambda data, **o: ks.weighted_logrank_combination(S, data, entry="ENROLDY", interim_events=20, **o),
        exchange=False,  # its p values are one-sided
        uses=(*RELAPSE, "ENROLDY"),
        times=("AVAL", "ENROLDY"),
    ),
    # safety
    of_counts("proportion", "x1", "n1"),
    of_counts("risk_difference", "x1", "n1", "x2", "n2"),
    of_counts("risk_ratio", "x1", "n1", "x2", "n2"),
    of_counts("odds_ratio", "x1", "n1", "x2", "n2"),
    of_counts("rate", "x1", "t1"),
    of_counts("rate_ratio", "x1", "t1", "x2", "t2"),
    of_counts("rate_difference", "x1", "t1", "x2", "t2"),
    of_counts("paired_difference", "both", "first", "second", "neither"),
    of_counts("paired_odds_ratio", "first", "second"),
    of_counts("paired_risk_ratio", "both", "first", "second", "neither"),
    of_counts("trend_test", "x", "n", "DOSE", table="doses"),
    of_counts("cmh_test", "x1", "n1", "x2", "n2", strata="SITEID"),
    of_counts("homogeneity", "x1", "n1", "x2", "n2", strata="SITEID"),
    Case(
        verb="risk_difference",
        name="risk_difference-strata",
        call=lambda data, **o: ks.risk_difference("x1", "n1", "x2", "n2", strata="SITEID", data=data, **o),
        data={"data": "counts"},
        uses=("x1", "n1", "x2", "n2", "SITEID"),
        swap=(("x1", "x2"), ("n1", "n2")),
        outcome=("x1", "n1", "x2", "n2"),
    ),
    Case(verb="zero_events", call=lambda **o: ks.zero_events([20, 100], **o)),
    safety(
        "incidence",
        events,
        ask("to_frame"),
        ask("table"),
        ask("compare"),
        ask("overview"),
        ask("prevalence", None),
        ask("exposure_adjusted"),
        ask("time_to_first", None),
        ask("max_severity"),
    ),
    safety("crude_and_stratified", lambda adsl, adae, **o: ks.crude_and_stratified(events(adsl, adae), "SEX", **o)),
    safety("exposure_matched", lambda adsl, adae, **o: ks.exposure_matched(events(adsl, adae), "AGE", bins=2, **o)),
    safety(
        "propensity_weighted", lambda adsl, adae, **o: ks.propensity_weighted(events(adsl, adae), ["AGE", "SEX"], **o)
    ),
    safety(
        "number_needed_to_harm",
        lambda adsl, adae, **o: ks.number_needed_to_harm(events(adsl, adae).compare(), **o),
        wraps=True,
    ),
    safety("safety_signals", lambda adsl, adae, **o: ks.safety_signals(events(adsl, adae), **o)),
    Case(
        verb="acute_course",
        call=lambda data, **o: ks.acute_course(data, by="TRT01A", **o),
        data={"data": "advs"},
        uses=("USUBJID", "TRT01A", "TRT01AN", "PARAMCD", "SESSION", "ATPTN", "AVAL", "BASE"),
        ids="USUBJID",
        outcome=("AVAL",),
    ),
    # evidence
    Case(
        verb="meta_analysis",
        call=lambda data, **o: ks.meta_analysis(data, "RR", **o),
        data={"data": "studies"},
        uses=("study", "x1", "n1", "x2", "n2"),
        swap=(("x1", "x2"), ("n1", "n2")),
        outcome=("x1", "n1", "x2", "n2"),
    ),
    Case(
        verb="meta_analysis",
        name="meta_analysis-difference",
        call=lambda data, **o: ks.meta_analysis(data, "RD", **o),
        data={"data": "studies"},
        uses=("study", "x1", "n1", "x2", "n2"),
        swap=(("x1", "x2"), ("n1", "n2")),
        outcome=("x1", "n1", "x2", "n2"),
    ),
    Case(
        verb="meta_regression",
        call=lambda data, **o: ks.meta_regression(data, "dose", "OR", **o),
        data={"data": "studies"},
        uses=("study", "x1", "n1", "x2", "n2", "dose"),
        swap=(("x1", "x2"), ("n1", "n2")),
        outcome=("x1", "n1", "x2", "n2"),
    ),
    Case(
        verb="network_meta_analysis",
        call=lambda data, **o: ks.network_meta_analysis(data, reference="Placebo", **o),
        data={"data": "network"},
        uses=("study", "treatment", "x", "n"),
        outcome=("x", "n"),
    ),
    Case(
        verb="subgroups",
        call=lambda data, **o: ks.subgroups(data, "CHG", by="TRT01P", factors=["SEX"], **o),
        data={"data": "endpoint"},
        uses=("CHG", *ARM, "SEX"),
        arm="TRT01P",
        scores=("CHG",),
        outcome=("CHG",),
    ),
    Case(
        verb="reconstruct_ipd",
        call=lambda data, **o: ks.reconstruct_ipd(data, {"Placebo": 40, "KAP IV": 40}, by="TRT01P", **o),
        data={"data": "clicked"},
        uses=("TRT01P", "time", "survival"),
        times=("time",),
        outcome=("survival",),
    ),
    Case(
        carries=True,
        rest=True,
        verb="audit",
        call=lambda data, **o: ks.audit(data, **o),
        data={"data": "claims"},
        uses=("study", "arm", "outcome", "events", "n", "percent"),
        outcome=(),  # its claims are texts as printed
    ),
    Case(verb="fingerprint", call=lambda **o: ks.fingerprint(60, 111, 42, 108, printed=("2.11", "28.22"), **o)),
    # data
    Case(
        verb="baseline_table",
        call=lambda data, **o: ks.baseline_table(data, variables=["AGE", "SEX", "WEIGHT"], **o),
        data={"data": "adsl"},
        uses=(*ARM, "AGE", "SEX", "WEIGHT", "USUBJID"),
        ids="USUBJID",
        outcome=("AGE",),
    ),
    Case(
        verb="disposition",
        call=lambda data, **o: ks.disposition(data, **o),
        data={"data": "adsl"},
        uses=(*ARM, "EOSSTT", "DCSREAS", "USUBJID", "ITTFL", "SAFFL", "RANDFL"),
        ids="USUBJID",
        outcome=("EOSSTT",),
    ),
    Case(
        verb="exposure_table",
        call=lambda adsl, adex, **o: ks.exposure_table(trial(adsl=adsl, adex=adex), **o),
        data={"adsl": "adsl", "adex": "adex"},
        uses=(
            "USUBJID",
            "TRT01A",
            "TRT01AN",
            "SAFFL",
            "EXDOSE",
            "SESSION",
            "EXDOSU",
            "NSESS",
            "EXSTDT",
            "ASTDY",
            "TRTSDT",
            "TRTEDT",
        ),
        ids="USUBJID",
        outcome=("EXDOSE",),
    ),
    Case(
        ignores=("dataset", "title"),
        verb="listing",
        call=lambda data, **o: ks.listing(data, columns=["USUBJID", "AGE", "SEX"], where="AGE > 40", **o),
        data={"data": "adsl"},
        uses=("USUBJID", "AGE", "SEX"),
        ids="USUBJID",
        rowwise=True,
    ),
    Case(
        rest=True,
        verb="Trial",
        call=lambda adsl, visits, **o: trial(adsl=adsl, adqs=visits, **o),
        data={"adsl": "adsl", "visits": "visits"},
        uses=(
            "USUBJID",
            *ARM,
            "SAFFL",
            "ITTFL",
            "RANDFL",
            "AVISIT",
            "AVISITN",
            "CHG",
            "BASE",
            "AVAL",
            "PARAMCD",
            "ADY",
        ),
        asks=(ask("check"), ask("population", "ITTFL").then("n_subjects"), ask("arms")),
        ids="USUBJID",
        frozen=False,
    ),
    Case(
        rest=True,
        verb="run",
        call=lambda adsl, adqs, adtte, **o: plan(adsl=adsl, adqs=adqs, adtte=adtte, **o),
        data={"adsl": "adsl", "adqs": "visits", "adtte": "relapse"},
        uses=(*VISITS, *RELAPSE, "SAFFL", "ITTFL"),
        ids="USUBJID",
        heavy=True,
        frozen=False,
    ),
    Case(
        rest=True,
        verb="read_adam",
        call=lambda data, **o: ks.read_adam(folder(data).parent, **o),
        data={"data": "adsl"},
        asks=(ask("adsl"),),
        heavy=True,
        frozen=False,
        rowwise=True,
    ),
    Case(
        rest=True,
        verb="read_chunks",
        call=lambda data, **o: pd.concat(list(ks.read_chunks(folder(data), 20, **o))),
        data={"data": "adsl"},
        heavy=True,
        frozen=False,
        rowwise=True,
    ),
    # without data
    Case(
        verb="simulate",
        call=lambda **o: ks.simulate("kap-parallel", 12, seed=1, truth=False, **o),
        asks=(ask("adsl"),),
        heavy=True,
        frozen=False,
    ),
    Case(verb="certify", call=lambda **o: ks.certify("risk_difference", "kap-parallel", 12, n=60, **o), heavy=True),
)

#: exported names that compute nothing from data: result types, containers and modules of other verbs
NO_CASE = {
    "certificates": "a list of what is published: no table goes in",
    "plan_kinds": "a list of names: no table goes in",
    "errors": "module of the exceptions",
    "Estimates": "the result of the verbs; every case checks it",
    "Curve": "the result of `curve`",
    "Table": "the result of `table`",
    "datasets": "module: the shipped trials, from which the tables of the battery come",
    "derive": "module: see DERIVE",
    "gallery": "module: published examples, reproduced by their own tests",
    "evidence": "module of the verbs of evidence",
    "Scenario": "the input of `simulate`",
}
