"""Verbs of pairs, ordered doses, strata that agree or not, and harm as a number of patients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy.special import ndtri

import kapstats as ks
from kapstats._types import FloatArray
from kapstats.certification.estimators import pairs as batch
from kapstats.certification.estimators.common import Analysis, fits, generator, in_world, tested
from kapstats.certification.estimators.verbs.reading import of_counts, p_values
from kapstats.simulation import safety_worlds as worlds
from kapstats.simulation.draw import Draw
from kapstats.simulation.scenario import Scenario

CELLS = ("both", "only_first", "only_second", "neither")
GROUPS = ("x1", "n1", "x2", "n2")


def _drawn(d: Draw) -> pd.DataFrame:
    return pd.DataFrame(generator(d, "pairs").multinomial(d.n, list(batch.PAIRS.values())), columns=CELLS)


def _paired(name: str, null: float, **options: Any) -> Analysis:
    cells = CELLS[1:3] if name == "paired_odds_ratio" else CELLS

    def one(scenario: Scenario, d: Draw, level: float) -> pd.DataFrame:
        found: pd.DataFrame = getattr(ks, name)(*cells, data=_drawn(d), level=level, **options).frame
        return found

    return of_counts(one, null)


def _plain_ratio(scenario: Scenario, d: Draw, level: float) -> pd.DataFrame:
    """A control: normal limits of the ratio itself."""
    cells = _drawn(d)
    found = ks.paired_risk_ratio(*CELLS, data=cells, test="corrected", level=level).frame
    a, b, c = (cells[k].to_numpy(dtype=float) for k in CELLS[:3])
    with np.errstate(divide="ignore", invalid="ignore"):
        reach = ndtri(0.5 + level / 2) * found["estimate"] * np.sqrt((b + c) / ((a + b) * (a + c)))
    return found.assign(conf_low=found["estimate"] - reach, conf_high=found["estimate"] + reach)


def _margins(scenario: Scenario, d: Draw, level: float) -> pd.DataFrame:
    """A control: the margins as if of two groups."""
    cells = _drawn(d)
    first, second = cells["both"] + cells["only_first"], cells["both"] + cells["only_second"]
    return ks.odds_ratio(first, d.n, second, d.n, "woolf", level=level).frame.drop(columns="std_error")


# ------------------------------------------------------------------------------------------- ordered doses


def _trend(scenario: Scenario, d: Draw, level: float) -> FloatArray:
    events, n = batch.groups(d)
    out = []
    for x in events:
        table = pd.DataFrame({"x": x, "n": n, "DOSE": batch.DOSES})
        found = ks.trend_test("x", "n", "DOSE", data=table).frame.set_index("method")["p_value"]
        out += [found["cochran-armitage"], found["exact-two"]]
    return p_values(out)


def _some_dose(scenario: Scenario, d: Draw, level: float) -> FloatArray:
    """A control: the smallest p value of each dose against none."""
    events, n = batch.groups(d)
    out = []
    for x in events:
        table = pd.DataFrame({"x1": x[1:], "n1": n[1:], "x2": x[0], "n2": n[0]})
        found = ks.risk_difference(*GROUPS, method="farrington-manning", data=table, level=level).frame
        out.append(found["p_value"].fillna(1.0).min())
    return p_values(np.repeat(out, 2))


# ------------------------------------------------------------------------------------------- strata, harm


def _homogeneity(methods: tuple[str, ...], equal: str) -> Analysis:
    def one(rng: np.random.Generator, n: int, level: float) -> FloatArray:
        cells = worlds.strata(rng, n, equal)
        situations, strata = cells[0].shape
        table = pd.DataFrame({name: part.ravel() for name, part in zip(GROUPS, cells, strict=True)})
        table = table.assign(SITUATION=np.repeat(np.arange(situations), strata))
        table = table.assign(STRATUM=np.tile(np.arange(strata), situations))
        found = ks.homogeneity(*GROUPS, strata="STRATUM", data=table, term="SITUATION").frame
        return p_values([p for m in methods for p in found.loc[found["method"] == m, "p_value"]])

    return in_world(equal, one, tested)


def _needed(naive: bool) -> Analysis:
    def one(scenario: Scenario, d: Draw, level: float) -> pd.DataFrame:
        table = pd.DataFrame(dict(zip(GROUPS, worlds.tables(generator(d, "tables"), d.n), strict=True)))
        harmed = table[[s.p1 != s.p2 for s in worlds.SITUATIONS]]
        found = ks.number_needed_to_harm(ks.risk_difference(*GROUPS, data=harmed, level=level)).frame
        return batch.reach(found, naive)

    return of_counts(one, 1.0)


def _nobody(scenario: Scenario, d: Draw, level: float) -> pd.DataFrame:
    """The limit of `ks.zero_events` where nobody had the event, else no claim."""
    none = generator(d, "nobody").binomial(d.n, batch.RISKS) == 0
    high = ks.zero_events(np.full(none.size, d.n), level).frame["conf_high"].to_numpy()
    return pd.DataFrame({"estimate": np.nan, "conf_low": 0.0, "conf_high": np.where(none, high, 1.0)})


VERBS: dict[str, Analysis] = {
    "paired_difference": _paired("paired_difference", 0.0),
    "paired_difference-newcombe": _paired("paired_difference", 0.0, method="newcombe", test="mid-p"),
    "paired_difference-bonett-price": _paired("paired_difference", 0.0, method="bonett-price", test="exact"),
    "paired_difference-wald": _paired("paired_difference", 0.0, method="wald"),
    "paired_risk_ratio": _paired("paired_risk_ratio", 1.0, test="corrected"),
    "paired_risk_ratio-plain": of_counts(_plain_ratio, 1.0),
    "paired_odds_ratio": _paired("paired_odds_ratio", 1.0),
    "paired_odds_ratio-score": _paired("paired_odds_ratio", 1.0, method="score"),
    "paired_odds_ratio-margins": of_counts(_margins, 1.0),
    "trend_test": fits(_trend, tested),
    "trend_test-some-dose": fits(_some_dose, tested),
    "homogeneity": _homogeneity(("breslow-day", "tarone"), "odds-ratio"),
    "homogeneity-score": _homogeneity(("score",), "risk-difference"),
    "homogeneity-other-scale": _homogeneity(("score",), "odds-ratio"),
    "number_needed_to_harm": _needed(naive=False),
    "number_needed_to_harm-one-stretch": _needed(naive=True),
    "zero_events": of_counts(_nobody, np.nan),
}
