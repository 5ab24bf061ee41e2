"""What each row of a result estimates (an odds ratio, a difference, log odds), and on which scale it is shown.

A result says it in ``.meta``: `scale` is where ``estimate`` stands in ``to_frame()`` ("identity", "log", "logit",
"natural" ...), `measure` what it is, in words. Rows that are something else are named by
``measures={column: {value: measure}}``. Tables and figures ask here: ratios are shown as ratios, on a log axis.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any

import numpy as np
import pandas as pd

#: measures by their usual letters
NAMES = {
    "OR": "odds ratio",
    "RR": "risk ratio",
    "HR": "hazard ratio",
    "IRR": "rate ratio",
    "ROM": "ratio of means",
    "RD": "risk difference",
    "MD": "mean difference",
    "SMD": "standardised mean difference",
    "AS": "difference of arcsine square roots",
    "logit": "log odds",
    "log": "log proportion",
    "raw": "proportion",
    "arcsine": "arcsine square root of a proportion",
    "freeman-tukey": "double arcsine of a proportion",
}
#: the ratio that a difference of two such means is
RATIO_OF = {
    "log odds": "odds ratio",
    "log risk": "risk ratio",
    "log rate": "rate ratio",
    "log mean": "ratio of means",
    "log hazard": "hazard ratio",
}
#: columns on the scale of the estimate
ON_SCALE = ("estimate", "conf_low", "conf_high", "pred_low", "pred_high")
#: (links, family) -> what the linear predictor is
_MEANS = {("log", "binomial"): "log risk", ("log", "poisson"): "log rate", ("log", "negative-binomial"): "log rate"}


@dataclass(frozen=True, slots=True)
class Scale:
    """One row: what it estimates in words ("" where the result does not say), and where its estimate stands.

    Examples
    --------
    >>> Scale("odds ratio", "log").is_ratio, Scale("odds ratio", "log").exponentiated, Scale("", "log").header
    (True, True, 'Estimate (log)')
    """

    measure: str
    stored: str

    @property
    def is_ratio(self) -> bool:
        """Whether no effect is 1: shown as a ratio, drawn on a log axis."""
        words = self.measure.split()
        if not words:  # a result that says no more than that it is exp of something
            return self.stored in ("natural", "ratio")
        return self.measure == "win odds" or ("ratio" in words and words[0] != "log")

    @property
    def exponentiated(self) -> bool:
        """Whether what is shown is exp(estimate)."""
        return self.stored in ("log", "logit") and self.measure != "" and not self.measure.startswith("log ")

    @property
    def header(self) -> str:
        """The words above such estimates; they always state a scale that is not the response's own."""
        if self.measure:
            return self.measure[:1].upper() + self.measure[1:]
        return "Estimate" if self.stored in ("identity", "natural", "ratio") else f"Estimate ({self.stored})"


def named(measure: str) -> str:
    """The measure in words: letters as meta-analyses use them are written out.

    Examples
    --------
    >>> named("or"), named("odds-ratio"), named("MADRS points")
    ('odds ratio', 'odds ratio', 'MADRS points')
    """
    known = {key.lower(): words for key, words in NAMES.items()}
    plain = measure.lower().replace("-", " ")
    return known.get(measure.lower(), plain if plain in known.values() else measure)


def of_mean(link: str, family: str) -> str:
    """What a linear predictor is: "log odds", "log risk", "log rate", "log mean"; "" on the response's own scale.

    Examples
    --------
    >>> of_mean("logit", "binomial"), of_mean("log", "poisson"), of_mean("identity", "gaussian")
    ('log odds', 'log rate', '')
    """
    return "log odds" if link == "logit" else _MEANS.get((link, family), "log mean") if link == "log" else ""


def of_coefficients(link: str, family: str, names: Iterable[str]) -> dict[str, Any]:
    """`measure` and `measures` of the coefficients of a generalised linear model, by their names.

    Beside an intercept (or the thresholds "1|2" of a cumulative model) they are ratios; without one some are levels.
    """
    mean = of_mean(link, family)
    base = [name for name in names if name == "(Intercept)" or "|" in name]
    if not mean or not base:
        return {"measure": mean}
    return {"measure": RATIO_OF[mean], "measures": {"term": dict.fromkeys(base, mean.removeprefix("log "))}}


def of(frame: pd.DataFrame, meta: Mapping[str, Any]) -> list[Scale]:
    """The scale of every row of a result."""
    default = _default(meta)
    found = [default] * len(frame)
    for column, measures in dict(meta.get("measures") or {}).items():
        if column in frame:
            scales = {value: Scale(named(measure), default.stored) for value, measure in measures.items()}
            found = [scales.get(value, one) for value, one in zip(frame[column], found, strict=True)]
    return found


def _default(meta: Mapping[str, Any]) -> Scale:
    return Scale(named(str(meta.get("measure") or "")), str(meta.get("scale") or "identity"))


def header(scales: Sequence[Scale], meta: Mapping[str, Any]) -> str:
    """The words above the estimates: what they all are, or what the result as a whole is."""
    one = common(scales)
    if one is None and (meta.get("measure") or not scales):
        one = _default(meta)
    return "Estimate" if one is None else one.header


def common(scales: Sequence[Scale]) -> Scale | None:
    """The scale that all rows share, None where they differ or there are none."""
    distinct = set(scales)
    return distinct.pop() if len(distinct) == 1 else None


def shown(frame: pd.DataFrame, scales: Sequence[Scale], names: Mapping[str, str] | None = None) -> pd.DataFrame:
    """The rows as tables and figures show them: ratios in place of their logs, "A / B" in place of "A - B".

    names : contrasts as ratios, by their names as differences (`ratio_names`); None: a single " - " is the sign
    """
    change = np.array([s.exponentiated for s in scales], dtype=bool)
    if not (change.any() or names):
        return frame
    with np.errstate(over="ignore"):
        columns: dict[str, Any] = {
            c: np.where(change, np.exp(frame[c].to_numpy(dtype=float)), frame[c].to_numpy(dtype=float))
            for c in ON_SCALE
            if c in frame
        }
    ratio = [s.is_ratio and (s.exponentiated or bool(names)) for s in scales]
    if "contrast" in frame:
        columns["contrast"] = [_as_ratio(t, names) if r else t for t, r in zip(frame["contrast"], ratio, strict=True)]
    if "term" in frame:
        columns["term"] = [_without_log(t) if r else t for t, r in zip(frame["term"], ratio, strict=True)]
    return frame.assign(**columns)


def ratio_names(labels: Iterable[str]) -> dict[str, str]:
    """ "A - B" -> "A / B" for every pair of levels, whose own names may hold either sign.

    Examples
    --------
    >>> ratio_names(["KAP - low", "Placebo"])["KAP - low - Placebo"]
    'KAP - low / Placebo'
    """
    return {f"{a} - {b}": f"{a} / {b}" for a, b in permutations(dict.fromkeys(labels), 2)}


def _as_ratio(text: Any, names: Mapping[str, str] | None) -> Any:
    """ "A / B" for "A - B"."""
    if not isinstance(text, str) or names is not None:
        return text if names is None else names.get(text, text)
    return text.replace(" - ", " / ") if text.count(" - ") == 1 and " / " not in text else text


def _without_log(text: Any) -> Any:
    """ "hazard ratio, ..." for "log hazard ratio, ..."; names of columns, levels and studies stay."""
    return text.removeprefix("log ") if isinstance(text, str) and text.startswith("log hazard ratio") else text
