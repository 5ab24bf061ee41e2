"""From the response of a generalised linear mixed model to its observations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from kapstats import frames
from kapstats._types import FloatArray
from kapstats.errors import DataError, FormulaError, choose, first_ids
from kapstats.formula.expressions import columns_in, evaluate
from kapstats.formula.split import call, parse
from kapstats.kernels.families import Observations

FAMILIES = ("binomial", "poisson", "negative-binomial", "cumulative")
LINKS = {
    "binomial": ("logit", "probit", "cloglog"),
    "poisson": ("log",),
    "negative-binomial": ("log",),
    "cumulative": ("logit", "probit", "cloglog"),
}


@dataclass(frozen=True)
class Response:
    """Observations of one family, with the labels of its categories (binomial of two labels, cumulative)."""

    observations: Observations
    labels: tuple[Any, ...]


def link_of(family: str, link: str | None) -> str:
    """The link asked for, or the family's default."""
    choose(family, FAMILIES, "family")
    return LINKS[family][0] if link is None else choose(link, LINKS[family], f"link of {family}")


def response_columns(formula: str, frame: pd.DataFrame) -> list[str]:
    """The columns that the response reads."""
    text = str(parse(formula).response)
    found = call(text)
    parts = found[1] if found is not None and found[0] == "cbind" else (text,)
    return [c for part in parts for c in columns_in(part, map(str, frame.columns))]


def read(formula: str, family: str, link: str, used: pd.DataFrame, weights: FloatArray | None) -> Response:
    """Check the response of the complete rows and bring it to counts or categories."""
    text = str(parse(formula).response)
    if family == "cumulative":
        return _cumulative(text, link, used, weights)
    one = np.ones(len(used))
    if family == "binomial":
        return _binomial(text, link, used, weights)
    y = evaluate(text, used)
    _require_counts(y, text)
    return Response(Observations(family, link, y, one, one if weights is None else weights), ())


def _require_counts(y: FloatArray, text: str) -> None:
    bad = np.flatnonzero((y < 0) | (np.abs(y - np.round(y)) > 1e-9))
    if len(bad):
        raise DataError(f"{text}: {len(bad)} rows are not counts 0, 1, 2, ... (first rows {first_ids(bad)}).")


def _binomial(text: str, link: str, used: pd.DataFrame, weights: FloatArray | None) -> Response:
    found, one = call(text), np.ones(len(used))
    if found is not None and found[0] == "cbind":
        if len(found[1]) != 2:
            raise FormulaError(f"{text}: write cbind(events, non-events).")
        events, others = (evaluate(part, used) for part in found[1])
        for value, part in ((events, found[1][0]), (others, found[1][1])):
            _require_counts(value, part)
        return Response(Observations("binomial", link, events, events + others, _or(weights, one)), ())
    y, labels = _two_valued(text, used)
    size = _or(weights, one)
    bad = np.flatnonzero((y < 0) | (y > 1) | (np.abs(y * size - np.round(y * size)) > 1e-6))
    if len(bad):
        raise DataError(
            f"{text}: {len(bad)} rows are not 0 or 1 (first rows {first_ids(bad)}). Give events per trials as "
            "cbind(events, non-events), or a proportion with weights= the number of trials."
        )
    return Response(Observations("binomial", link, np.round(y * size), size, one), labels)


def _or(weights: FloatArray | None, one: FloatArray) -> FloatArray:
    return one if weights is None else weights


def _two_valued(text: str, used: pd.DataFrame) -> tuple[FloatArray, tuple[Any, ...]]:
    """The response as numbers; of two labels the second is the event."""
    if text not in used.columns or pd.api.types.is_numeric_dtype(used[text].dtype):
        return evaluate(text, used), ()
    found = frames.levels(used, text)
    if len(found.values) != 2:
        raise DataError(f"{text}: a binomial response has two values, not {len(found.values)}.")
    if found.source == "sorted":
        frames.warn_sorted({text: found})
    return found.codes.astype(float), found.values


def _cumulative(text: str, link: str, used: pd.DataFrame, weights: FloatArray | None) -> Response:
    frames.require(used, [text])
    found = frames.levels(used, text)
    if len(found.values) < 3:
        raise DataError(f"{text}: {len(found.values)} categories; with two use family='binomial'.")
    if found.source == "sorted":
        raise DataError(f"{text}: the order of {first_ids(found.values)} is not stated. Use an ordered categorical.")
    one = np.ones(len(used))
    return Response(Observations("cumulative", link, found.codes.astype(float), one, _or(weights, one)), found.values)
