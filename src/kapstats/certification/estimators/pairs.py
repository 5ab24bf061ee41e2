"""Tables beyond two independent groups: pairs, ordered doses, strata that agree or not, nobody with the event, harm as
a number of patients. The cell probabilities are written here, so that the truth of every row is a constant."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import ndtri

from kapstats._types import FloatArray
from kapstats.certification.estimators.common import (
    NUMBERS,
    Analysis,
    Answer,
    Certificate,
    Estimator,
    Rows,
    bounded,
    by_level,
    decided,
    generator,
    in_world,
    numbers,
)
from kapstats.estimates import Estimates, meta
from kapstats.kernels import paired_tables, score_intervals, trend, two_proportions
from kapstats.kernels import stratified_tables as kernel
from kapstats.safety import two_by_two
from kapstats.safety.incidence import incidence
from kapstats.safety.paired import mcnemar_columns
from kapstats.safety.proportion import zero_events
from kapstats.safety.routes import number_needed_to_harm
from kapstats.simulation import safety_worlds as worlds
from kapstats.simulation.draw import Draw
from kapstats.simulation.scenario import Scenario

Cells = tuple[FloatArray, ...]

# -------------------------------------------------------------------------------------------------------- pairs

#: probabilities of the event under both routes, the first only, the second only, neither, of a subject given both
PAIRS = {
    "no effect": (0.20, 0.15, 0.15, 0.50),
    "effect": (0.20, 0.25, 0.10, 0.45),
    "rare": (0.02, 0.06, 0.03, 0.89),
}
_CELLS = np.array(list(PAIRS.values()))
_FIRST, _SECOND = _CELLS[:, :2].sum(axis=1), _CELLS[:, [0, 2]].sum(axis=1)


def _pairs(draws: Sequence[Draw]) -> Cells:
    """Counts (replicates, situations) of the four kinds of pairs."""
    found = np.stack([generator(d, "pairs").multinomial(d.n, _CELLS) for d in draws]).astype(float)
    return tuple(np.moveaxis(found, 2, 0))


def _paired(estimate: Callable[..., FloatArray], limits: Callable[..., Any], null: float, test: str) -> Analysis:
    """Two margins compared; the p value is McNemar's, of equal margins."""

    def analyse(scenario: Scenario, draws: Sequence[Draw], level: float) -> Answer:
        cells = _pairs(draws)
        flat = [c.ravel() for c in cells]
        low, high = limits(*flat, (1 - level) / 2)
        with np.errstate(divide="ignore", invalid="ignore"):
            value = estimate(*flat)
        p = mcnemar_columns(flat[1], flat[2], test)["p_value"]
        found = {"estimate": value, "conf_low": low, "conf_high": high, "p_value": p}
        return bounded({k: v.reshape(cells[0].shape) for k, v in found.items()}, null, level)

    return analyse


def _margins(scenario: Scenario, draws: Sequence[Draw], level: float) -> Answer:
    """A control: the odds ratio of the two margins, as of two groups, for that of a subject."""
    cells = _pairs(draws)
    a, b, c, d = (part.ravel() for part in cells)
    n = a + b + c + d
    found = two_by_two.columns_of("odds-ratio", "woolf", (a + b, n, a + c, n), (1 - level) / 2, "two")
    shown = {k: found[k].reshape(cells[0].shape) for k in ("estimate", "conf_low", "conf_high", "p_value")}
    return bounded(shown, 1.0, level)


def _gap(a: FloatArray, b: FloatArray, c: FloatArray, d: FloatArray) -> FloatArray:
    return (b - c) / (a + b + c + d)


def _ratio(a: FloatArray, b: FloatArray, c: FloatArray, d: FloatArray) -> FloatArray:
    return (a + b) / (a + c)


def _odds(a: FloatArray, b: FloatArray, c: FloatArray, d: FloatArray) -> FloatArray:
    return b / c


def _conditional(kind: str) -> Callable[..., Any]:
    return lambda a, b, c, d, tail: paired_tables.odds_ratio_limits(b, c, tail, kind)


def _plain_ratio(a: FloatArray, b: FloatArray, c: FloatArray, d: FloatArray, tail: float) -> Any:
    """A control: normal limits of the ratio itself."""
    with np.errstate(divide="ignore", invalid="ignore"):
        value = (a + b) / (a + c)
        reach = -ndtri(tail) * value * np.sqrt((b + c) / ((a + b) * (a + c)))
        return value - reach, value + reach


# ------------------------------------------------------------------------------------------------ ordered doses

DOSES = np.array([0.0, 0.25, 0.5, 1.0])
#: risk at every dose
FLAT = {"rare": 0.08, "common": 0.3}


def groups(d: Draw) -> tuple[FloatArray, FloatArray]:
    """Events (situations, doses) and subjects (doses,) of four equal groups that do not differ."""
    n = np.full(DOSES.size, d.n // DOSES.size)
    risk = np.array(list(FLAT.values()))[:, None]
    return generator(d, "doses").binomial(n, np.broadcast_to(risk, (len(FLAT), DOSES.size))).astype(float), n * 1.0


def _trend(scenario: Scenario, draws: Sequence[Draw], level: float) -> Answer:
    """P values of a trend, asymptotic and exact."""

    def one(d: Draw) -> list[float]:
        events, n = groups(d)
        tests = [(trend.cochran_armitage(x, n, DOSES).p, trend.exact_trend(x, n, DOSES)["two"]) for x in events]
        return [p for pair in tests for p in pair]

    return decided(np.array([one(d) for d in draws]))


def _some_dose(scenario: Scenario, draws: Sequence[Draw], level: float) -> Answer:
    """A control: each dose against none, and the smallest p value reported."""
    found = []
    for d in draws:
        events, n = groups(d)
        size = np.broadcast_to(n[1:], events[:, 1:].shape)
        none = np.broadcast_to(events[:, :1], size.shape)
        _, p = two_proportions.chi_square(events[:, 1:].ravel(), size.ravel(), none.ravel(), size.ravel(), "pearson")
        found.append(np.repeat(np.where(np.isnan(p), 1.0, p).reshape(len(events), -1).min(axis=1), 2))
    return decided(np.array(found))


# ------------------------------------------------------------------------------------------------------- strata

ODDS = ("breslow-day", "tarone")


def _homogeneity(measure: str, equal: str) -> Analysis:
    """P values of equal effects of one `measure` in all strata, where those of the measure `equal` are equal."""

    def analyse(scenario: Scenario, draws: Sequence[Draw], level: float) -> Answer:
        found = [worlds.strata(generator(d, equal), d.n, equal) for d in draws]
        x1, n1, x2, n2 = (np.concatenate(part) for part in zip(*found, strict=True))
        if measure == "risk-difference":
            tests = [kernel.score_homogeneity(x1, n1, x2, n2)]
        else:
            tests = [kernel.breslow_day(x1, n1, x2, n2, tarone=name == "tarone") for name in ODDS]
        return decided(np.concatenate([t[2].reshape(len(draws), -1) for t in tests], axis=1))

    return analyse


# ------------------------------------------------------------------------------------------- harm, and no event

#: the two groups of `worlds.SITUATIONS` that differ: only those have a finite number needed to harm
HARM = [s for s in worlds.SITUATIONS if s.p1 != s.p2]


def _needed(naive: bool) -> Analysis:
    """Limits of the number needed to harm. An interval through infinity has two ends; the one that reaches the harm is
    shown. A control reads its two ends as the limits of one stretch, through zero.
    """

    def analyse(scenario: Scenario, draws: Sequence[Draw], level: float) -> Answer:
        kept = [i for i, s in enumerate(worlds.SITUATIONS) if s.p1 != s.p2]
        found = [worlds.tables(generator(d, "tables"), d.n) for d in draws]
        x1, n1, x2, n2 = (np.stack(part)[:, kept].ravel() for part in zip(*found, strict=True))
        low, high = score_intervals.difference_limits(x1, n1, x2, n2, (1 - level) / 2)
        rows = pd.DataFrame({"estimate": x1 / n1 - x2 / n2, "conf_low": low, "conf_high": high})
        out = reach(number_needed_to_harm(Estimates(rows, meta(method="score", level=level))).frame, naive)
        shown = {str(c): out[c].to_numpy(dtype=float).reshape(len(draws), -1) for c in out}
        return bounded(shown, 1.0, level)

    return analyse


def reach(found: pd.DataFrame, naive: bool) -> pd.DataFrame:
    """Estimate and limits of a number needed to harm; of an interval through infinity the end that reaches the harm."""
    shown = found[["estimate", "conf_low", "conf_high"]].astype(float)
    if naive:
        return shown
    through = found["through_infinity"].astype(bool)
    low = shown["conf_low"].where(~through, shown["conf_high"])
    return shown.assign(conf_low=low, conf_high=shown["conf_high"].where(~through, np.inf))


RISKS = (0.01, 0.03, 0.05)


def _nobody(bound: Callable[[int, float], float]) -> Analysis:
    """Limits of a risk that claim something only where nobody had the event."""

    def analyse(scenario: Scenario, draws: Sequence[Draw], level: float) -> Answer:
        none = np.stack([generator(d, "nobody").binomial(d.n, RISKS) == 0 for d in draws])
        high = np.where(none, bound(draws[0].n, level), 1.0)
        nothing = np.full(high.shape, np.nan)
        return bounded({"estimate": nothing, "conf_low": 0 * high, "conf_high": high}, np.nan, level)

    return analyse


def _upper(n: int, level: float) -> float:
    return float(zero_events(n, level).frame["conf_high"].iloc[0])


# --------------------------------------------------------------------------------------------- records of events

#: risk of at least one event in two groups, and the mean number of further ones
RECORDS, MORE = (0.3, 0.15), 1.0


def _records(rng: np.random.Generator, n: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Records of events, several per subject, and subjects of two groups."""
    group = np.arange(n) % 2
    count = (rng.random(n) < np.array(RECORDS)[group]) * (1 + rng.poisson(MORE, n))
    adsl = pd.DataFrame({"USUBJID": np.arange(n), "TRT01A": np.where(group, "Control", "Drug"), "TRT01AN": 1 - group})
    return pd.DataFrame({"USUBJID": np.repeat(np.arange(n), count), "AEDECOD": "Nausea", "TRTEMFL": "Y"}), adsl


def _incidence(rng: np.random.Generator, n: int, level: float) -> FloatArray:
    """Share of the subjects of each group with the event, and the difference with its limits."""
    table = incidence(*_records(rng, n), terms=["AEDECOD"])
    share = table.frame.loc[table.frame["level"] == "PT"].set_index("TRT01A")["percent"] / 100
    gap = table.compare(reference="Control", level=level).frame
    each = np.full((2, len(NUMBERS)), np.nan)
    each[:, 0] = share[["Drug", "Control"]]
    return np.vstack([each, numbers(gap[gap["level"] == "PT"])])


def _per_record(rng: np.random.Generator, n: int, level: float) -> FloatArray:
    """A control: records counted as if each were a subject."""
    events, adsl = _records(rng, n)
    drug = int(events["USUBJID"].map(adsl["TRT01A"]).eq("Drug").sum())
    x = np.array([drug, len(events) - drug]) / (n / 2)
    gap, error = x[0] - x[1], np.sqrt(x.sum() / (n / 2))
    reach = -ndtri((1 - level) / 2) * error
    each = np.full((2, len(NUMBERS)), np.nan)
    each[:, 0] = x
    return np.vstack([each, [gap, error, gap - reach, gap + reach, np.nan]])


# --------------------------------------------------------------------------------------------------- what there is


def _true(values: FloatArray) -> dict[str, float]:
    return dict(zip(PAIRS, values.tolist(), strict=True))


_RD, _RR = by_level("paired_difference", _true(_FIRST - _SECOND)), by_level("paired_ratio", _true(_FIRST / _SECOND))
_OR = by_level("paired_odds_ratio", _true(_CELLS[:, 1] / _CELLS[:, 2]))
_NO_TREND = by_level("trend", {f"{risk}, {test}": 1.0 for risk in FLAT for test in ("asymptotic", "exact")})
_AGREE = by_level("odds ratios agree", {f"{m}, {e}": 1.0 for m in ODDS for e in ("no effect", "effect")})
_AGREE_RD = by_level("risk differences agree", {"no effect": 1.0, "effect": 1.0})
_NNH = by_level("number_needed_to_harm", {s.label: 1 / (s.p1 - s.p2) for s in HARM})
_NOBODY = by_level("risk", {f"{p:.0%}": p for p in RISKS})
_SUBJECTS: Rows = by_level(
    "incidence", {"drug": RECORDS[0], "control": RECORDS[1], "difference": RECORDS[0] - RECORDS[1]}
)

ESTIMATORS: tuple[Estimator, ...] = (
    Estimator("paired_difference", (), _RD, _paired(_gap, paired_tables.tango, 0.0, "asymptotic")),
    Estimator("paired_difference-newcombe", (), _RD, _paired(_gap, paired_tables.newcombe, 0.0, "mid-p")),
    Estimator("paired_difference-bonett-price", (), _RD, _paired(_gap, paired_tables.bonett_price, 0.0, "exact")),
    Estimator("paired_difference-wald", (), _RD, _paired(_gap, paired_tables.wald, 0.0, "asymptotic")),
    Estimator("paired_risk_ratio", (), _RR, _paired(_ratio, paired_tables.tang, 1.0, "corrected"), by_limits=True),
    Estimator("paired_risk_ratio-plain", (), _RR, _paired(_ratio, _plain_ratio, 1.0, "corrected"), by_limits=True),
    Estimator("paired_odds_ratio", (), _OR, _paired(_odds, _conditional("exact"), 1.0, "exact"), by_limits=True),
    Estimator("paired_odds_ratio-score", (), _OR, _paired(_odds, _conditional("score"), 1.0, "exact"), by_limits=True),
    Estimator("paired_odds_ratio-margins", (), _OR, _margins, by_limits=True),
    Estimator("trend_test", (), _NO_TREND, _trend),
    Estimator("trend_test-some-dose", (), _NO_TREND, _some_dose),
    Estimator("homogeneity", (), _AGREE, _homogeneity("odds-ratio", "odds-ratio")),
    Estimator("homogeneity-score", (), _AGREE_RD, _homogeneity("risk-difference", "risk-difference")),
    Estimator("homogeneity-other-scale", (), _AGREE_RD, _homogeneity("risk-difference", "odds-ratio")),
    Estimator("number_needed_to_harm", (), _NNH, _needed(naive=False), by_limits=True),
    Estimator("number_needed_to_harm-one-stretch", (), _NNH, _needed(naive=True), by_limits=True),
    Estimator("zero_events", (), _NOBODY, _nobody(_upper)),
    Estimator("zero_events-no-risk", (), _NOBODY, _nobody(lambda n, level: 0.0)),
    Estimator("incidence", (), _SUBJECTS, in_world("records", _incidence)),
    Estimator("incidence-records", (), _SUBJECTS, in_world("records", _per_record)),
)


def _published(estimator: str, n: int, control: bool = False, note: str = "") -> Certificate:
    return Certificate(estimator, "closed-forms", n, control=control, note=note)


CERTIFICATES: tuple[Certificate, ...] = (
    _published("paired_difference", 60, note="rejection by McNemar's test"),
    _published("paired_difference-newcombe", 60, note="rejection by McNemar's mid-p test"),
    _published("paired_difference-bonett-price", 60, note="rejection by McNemar's exact test"),
    _published("paired_difference-wald", 30, control=True, note="few pairs"),
    _published("paired_risk_ratio", 60, note="rejection by McNemar's corrected test"),
    _published("paired_risk_ratio-plain", 60, control=True, note="normal limits of the ratio itself"),
    _published("paired_odds_ratio", 60),
    _published("paired_odds_ratio-score", 60),
    _published("paired_odds_ratio-margins", 240, control=True, note="margins compared as if of two groups"),
    _published("trend_test", 80, note="rejection is the type I error"),
    _published("trend_test-some-dose", 80, control=True, note="smallest p value of each dose against none"),
    _published("homogeneity", 400, note="rejection is the type I error, odds ratios equal"),
    _published("homogeneity-score", 400, note="rejection is the type I error, risk differences equal"),
    _published("homogeneity-other-scale", 2000, control=True, note="odds ratios equal, risk differences tested"),
    _published("number_needed_to_harm", 90, note="of an interval through infinity the end that reaches the harm"),
    _published("number_needed_to_harm-one-stretch", 90, control=True, note="through zero in place of infinity"),
    _published("zero_events", 60),
    _published("zero_events-no-risk", 60, control=True, note="no event seen, so no risk"),
    _published("incidence", 120, note="records counted by subject"),
    _published("incidence-records", 120, control=True, note="records counted as subjects"),
)
