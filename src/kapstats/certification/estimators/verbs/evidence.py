"""Verbs of evidence over studies: pooling, regression on a moderator, networks, times read off a curve."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

import kapstats as ks
from kapstats._types import FloatArray
from kapstats.certification.estimators import evidence as batch
from kapstats.certification.estimators.common import Analysis, estimated, fits, generator, wald_rows
from kapstats.certification.estimators.verbs.reading import keyed
from kapstats.simulation.draw import Draw
from kapstats.simulation.scenario import Scenario


def _effects(d: Draw, slope: float = 0.0) -> pd.DataFrame:
    e = batch.effects(d, slope)
    names = [f"Trial {k + 1}" for k in range(d.n)]
    return pd.DataFrame({"study": names, "estimate": e.y, "std_error": np.sqrt(e.v), "MODERATOR": e.x})


def _pooled(**options: Any) -> Analysis:
    def one(scenario: Scenario, d: Draw, level: float) -> FloatArray:
        found = ks.meta_analysis(_effects(d), level=level, **options).frame
        return keyed(found, ["term"], ["pooled"])

    return fits(one, lambda x: np.isfinite(x[..., 1]))


def _regressed(**options: Any) -> Analysis:
    def one(scenario: Scenario, d: Draw, level: float) -> FloatArray:
        found = ks.meta_regression(_effects(d, batch.SLOPE), "~ MODERATOR", level=level, **options).frame
        return keyed(found, ["term"], ["MODERATOR"])

    return fits(one, lambda x: np.isfinite(x[..., 1]))


def _rare(rho: float, **options: Any) -> Analysis:
    """Log odds ratios of rare events; trials none of which has an event in an arm have no estimate."""

    def one(scenario: Scenario, d: Draw, level: float) -> FloatArray:
        cells = dict(zip(("x1", "n1", "x2", "n2"), batch.counts(d, rho), strict=True))
        if 0 in (cells["x1"].sum(), cells["x2"].sum()):
            return np.full((1, 5), np.nan)
        table = pd.DataFrame({"study": [f"Trial {k + 1}" for k in range(d.n)], **cells})
        found = ks.meta_analysis(table, "OR", level=level, **options).frame
        return keyed(found, ["term"], ["pooled"])

    return fits(one)


def _summed(scenario: Scenario, d: Draw, level: float) -> FloatArray:
    """A control: the odds ratio of the counts of all trials together, on the log scale."""
    x1, n1, x2, n2 = (part.sum() for part in batch.counts(d, batch.RHO))
    if 0 in (x1, x2):
        return np.full((1, 5), np.nan)
    found = ks.odds_ratio(x1, n1, x2, n2, "woolf", level=level).frame
    x = found[["estimate", "std_error", "conf_low", "conf_high", "p_value"]].to_numpy(dtype=float)
    x[:, [0, 2, 3]] = np.log(x[:, [0, 2, 3]])
    return x


def _network(model: str) -> Analysis:
    names = ("First", "Second", "Third")

    def one(scenario: Scenario, d: Draw, level: float) -> FloatArray:
        rows = [
            {"study": f"Trial {k + 1}", "treatment": names[a], "mean": y, "sd": sd, "n": n}
            for k, trial in enumerate(batch.compared(d))
            for a, y, sd, n in zip(*trial, strict=True)
        ]
        found = ks.network_meta_analysis(pd.DataFrame(rows), "MD", model, reference=names[0], level=level).frame
        return keyed(found, ["contrast"], [f"{name} - {names[0]}" for name in names[1:]])

    return fits(one)


def _read_off(with_table: bool) -> Analysis:
    """Events and time at risk of the patients that the verb makes, and the log ratio of their rates."""

    def one(scenario: Scenario, d: Draw, level: float) -> FloatArray:
        rng = generator(d, "trials")
        made = []
        for rate in reversed(batch.RATES):
            clicks, at_risk, events = batch.published(rng, rate, with_table)
            table = pd.DataFrame({"time": at_risk[0], "n_risk": at_risk[1]})
            curve = pd.DataFrame({"time": clicks[0], "survival": clicks[1]})
            found = ks.reconstruct_ipd(curve, table, events).frame
            made.append((found["event"].sum(), found["time"].sum()))
        (d1, t1), (d0, t0) = made
        return wald_rows(np.log([d1 / t1 / (d0 / t0)]), np.sqrt([1 / d1 + 1 / d0]), level)

    return fits(one, estimated)


VERBS: dict[str, Analysis] = {
    "meta_analysis": _pooled(),
    "meta_analysis-dl-normal": _pooled(model="dl", ci="normal"),
    "meta_analysis-mantel-haenszel": _rare(0.0, model="mantel-haenszel"),
    "meta_analysis-corrected": _rare(0.0, model="dl", ci="normal", drop00=False),
    "meta_analysis-beta-binomial": _rare(batch.RHO, model="beta-binomial"),
    "meta_analysis-summed-counts": fits(_summed),
    "meta_regression": _regressed(),
    "meta_regression-common-normal": _regressed(model="common", ci="normal"),
    "network_meta_analysis": _network("reml"),
    "network_meta_analysis-common": _network("common"),
    "reconstruct_ipd": _read_off(True),
    "reconstruct_ipd-curve-only": _read_off(False),
}
