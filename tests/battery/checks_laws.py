"""Laws of statistics: exchange, units, weights, sums, levels, likelihoods."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd

import kapstats as ks
from kapstats.errors import KapstatsError
from tests.battery.cases import Case
from tests.battery.checks import attempt, check, light, usual
from tests.battery.results import Answers, answers, facts, frames_of

LIMITS = {"conf_low": "conf_high", "conf_high": "conf_low", "pred_low": "pred_high", "pred_high": "pred_low"}


# ------------------------------------------------------------------------------------------------ exchange of the arms
def _turned(value: float, column: str, how: str) -> float:
    """What a number of one comparison is in the other direction."""
    if column == "statistic":
        return -value
    if column in ("estimate", *LIMITS):
        with np.errstate(divide="ignore"):
            return float(np.divide(1.0, value)) if how == "reciprocal" else -value
    return value


def _close(a: float, b: float, tolerance: float) -> bool:
    return (np.isnan(a) and np.isnan(b)) or a == b or abs(a - b) <= tolerance * max(abs(a), abs(b), 1e-3)


def _way(label: str, scale: str) -> str:
    return "reciprocal" if scale == "natural" and " - " not in label else "negate"


def _exchanged(label: str, arms: list[str]) -> str:
    """`KAP - Placebo` the other way round; a term ``TRT01PKAP`` as ``TRT01PPlacebo``."""
    for sign in (" - ", " / "):
        if sign in label:
            return sign.join(reversed(label.split(sign)))
    for a, b in (arms, arms[::-1]):
        if label.endswith(a):
            return label.removesuffix(a) + b
    return label


def _of_arm(column: pd.Series, arms: list[str]) -> bool:
    """Whether a column says to which arm a row belongs (empty in the rows of comparisons)."""
    return column.dtype.kind not in "fiub" and set(column.dropna().astype(str)) <= {*arms, ""}


def _row_key(row: pd.Series, texts: list[str], of_arm: list[str], label: str) -> tuple[str, ...]:
    """What a row is about; a comparison stands in the row of the one arm or of the other."""
    own = [] if re.search(" [-/] ", label) else of_arm
    return (*(str(row[c]) for c in (*texts, *own)), label)


def _exchange_frame(before: pd.DataFrame, after: pd.DataFrame, scale: str, arms: list[str], precision: float) -> None:
    labelled = next((c for c in ("contrast", "term") if c in before), None)
    texts = [
        c
        for c in before.columns
        if before[c].dtype.kind not in "fiub" and c != labelled and not _of_arm(before[c], arms)
    ]
    texts = [c for c in texts if not before[c].astype(str).str.contains(r"\d\.\d").any()]
    of_arm = [
        c for c in before.columns if before[c].dtype.kind not in "fiub" and c != labelled and _of_arm(before[c], arms)
    ]
    there: dict[tuple[str, ...], list[pd.Series]] = {}
    for _, row in after.iterrows():
        there.setdefault(_row_key(row, texts, of_arm, str(row[labelled]) if labelled else ""), []).append(row)
    seen: dict[tuple[str, ...], int] = {}
    for _, row in before.iterrows():
        label = str(row[labelled]) if labelled else ""
        other = _exchanged(label, arms)
        if labelled == "term" and label == other:
            continue  # the intercept and what interacts with the arm belong to the reference
        key = _row_key(row, texts, of_arm, other)
        nth = seen[key] = seen.get(key, -1) + 1
        if key not in there:
            assert label == other or not re.search(" [-/] ", label), f"no row {key}"
            continue
        how = _way(label, scale) if label != other else ""
        for column in {"estimate", "p_value", "conf_low", "conf_high", "statistic", "std_error"} & set(before.columns):
            if how == "reciprocal" and column == "std_error":
                continue
            ours = float(there[key][nth][LIMITS.get(column, column) if how else column])
            theirs = _turned(float(row[column]), column, how) if how else float(row[column])
            if column == "statistic" and abs(abs(ours) - abs(theirs)) <= precision * max(abs(ours), 1e-3):
                continue  # chi-squared statistics keep their sign
            assert _close(ours, theirs, precision), f"{key} {column}: {ours!r} v {theirs!r}"


def _scale(answer: Any) -> str:
    meta = getattr(answer, "meta", {})
    return str(meta.get("scale", "identity")) if hasattr(meta, "get") else "identity"


@check(lambda case: light(case) and bool(case.arm) and case.exchange)
def arms_exchanged(case: Case) -> None:
    """Exchanging the order of the arms turns differences over, inverts ratios, and leaves each arm alone."""
    companion = f"{case.arm}N"
    given = {k: f.assign(**{companion: 1 - f[companion]}) if companion in f else f for k, f in case.tables.items()}
    found, before = answers(case, given), usual(case.id)
    arms = [str(a) for a in next(f[case.arm] for f in case.tables.values() if case.arm in f).unique()]
    for name, frame in frames_of(before).items():
        if "estimate" in frame and name != "baseline":
            try:
                _exchange_frame(frame, frames_of(found)[name], _scale(before.said[name]), arms, 10 * case.precision)
            except AssertionError as error:
                raise AssertionError(f"{name or case.verb}: {error}") from error


@check(lambda case: light(case) and bool(case.swap))
def groups_exchanged(case: Case) -> None:
    """Exchanging the two groups turns differences over and takes the reciprocal of ratios, limits with them."""
    columns = {a: b for pair in case.swap for a, b in (pair, pair[::-1])}
    found = answers(case, {"data": case.tables["data"].rename(columns=columns)})
    before = frames_of(usual(case.id))[""]
    after = frames_of(found)[""]
    scale = _scale(usual(case.id).result)
    how = {"natural": "reciprocal"}.get(scale, "negate")
    for column in {"estimate", "conf_low", "conf_high", "p_value"} & set(before.columns):
        if column == "estimate" and case.verb in ("cmh_test", "homogeneity"):
            continue
        ours = after[LIMITS.get(column, column)].astype(float)
        theirs = [_turned(v, column, how) for v in before[column].astype(float)]
        wrong = [(a, b) for a, b in zip(ours, theirs, strict=True) if not _close(a, b, 1e-6)]
        assert not wrong, f"{column}: {wrong[:3]}"


# ---------------------------------------------------------------------------------------------------------------- units
SHIFTED = ("loglik", "aic", "bic", "aicc", "Intercept", "log(", "gamma", "knot")


def _power(a: float, b: float, c: float, precision: float) -> bool:
    """Whether b is a times c to a whole power from -2 to 2."""
    if np.isnan(a) or np.isnan(b) or np.isinf(a) or np.isinf(b):
        return a == b or (np.isnan(a) and np.isnan(b))
    size = max(abs(a), 1e-6)
    return any(abs(b / c**k - a) <= precision * size for k in (0, 1, -1, 2, -2))


def _units(case: Case, columns: tuple[str, ...], c: float) -> None:
    given = {
        k: f.assign(**{n: f[n] * c for n in columns if n in f}) if set(columns) & set(f.columns) else f
        for k, f in case.tables.items()
    }
    asks = tuple(q.timed(lambda t: type(t)(t * c)) for q in case.asks) if columns == case.times else case.asks
    found = facts(answers(case.asking(asks), given))
    before = facts(usual(case.id))
    assert found.keys() == before.keys(), [k for k in before if k not in found][:4]
    words = {k[:-2] + k[-1:]: v for k, v in before.items() if isinstance(v, str)}
    for place, value in before.items():
        if any(s in str(p) for p in place for s in SHIFTED) or any(
            s in words.get(place[:-2] + place[-1:], "") for s in SHIFTED
        ):
            continue
        if isinstance(value, float) and isinstance(found[place], float):
            tolerance = 200 * case.precision
            assert _power(value, found[place], c, tolerance), f"{place}: {value!r} becomes {found[place]!r}"
        elif isinstance(value, bool) or not re.search(r"\d", str(value)):
            assert value == found[place], f"{place}: {value!r} becomes {found[place]!r}"


@check(lambda case: light(case) and bool(case.times))
def units_of_time(case: Case) -> None:
    """Days, years or milliseconds: no test, ratio or probability depends on the unit."""
    for c in (1000.0, 0.001):
        _units(case, case.times, c)


@check(lambda case: light(case) and bool(case.scores))
def units_of_score(case: Case) -> None:
    """Points or thousandths: no test depends on the unit, means and differences follow it."""
    for c in (1000.0, 0.001):
        _units(case, case.scores, c)


# -------------------------------------------------------------------------------------------------------------- weights
def _estimates(found: Answers) -> dict[str, np.ndarray]:
    return {
        name: frame["estimate"].to_numpy(dtype=float)
        for name, frame in frames_of(found).items()
        if "estimate" in frame.columns
    }


@check(lambda case: light(case) and bool(case.weights))
def weights_of_one(case: Case) -> None:
    """Weights of 1 are no weights, and equal weights of any size leave the estimates."""
    before = _estimates(usual(case.id))
    for value in (1.0, 3.0):
        given = {"data": case.tables["data"].assign(**{case.weights: value})}
        for name, after in _estimates(answers(case, given, weights=case.weights)).items():
            if name in (*case.counted, "variance_components", "icc") and value != 1.0:
                continue
            gone = np.nanmax(np.abs(after - before[name]), initial=0.0)
            assert gone <= 1e-6 * max(1.0, np.nanmax(np.abs(before[name]), initial=0.0)), f"{name} at {value}: {gone}"


@check(lambda case: light(case) and bool(case.weights) and case.survival)
def weights_are_copies(case: Case) -> None:
    """A weight of 2 is a row given twice."""
    frame = case.tables["data"]
    twice = frame.loc[frame.index.repeat(frame[case.weights])].reset_index(drop=True)
    twice[case.ids] = [f"S{k}" for k in range(len(twice))]
    weighted, copied = (
        _estimates(answers(case, {"data": given}, **options, **case.copies))
        for given, options in ((frame, {"weights": case.weights}), (twice, {}))
    )
    for name, after in weighted.items():
        gone = np.nanmax(np.abs(after - copied[name]), initial=0.0)
        assert gone <= 1e-6 * max(1.0, np.nanmax(np.abs(after), initial=0.0)), f"{name}: {gone}"


# ----------------------------------------------------------------------------------------------------------------- sums
def sentences(found: Answers, *, of_verb: bool = False) -> list[str]:
    texts = []
    for answer in [found.result] if of_verb else found.said.values():
        meta = getattr(answer, "meta", None)
        texts.append(str(meta.get("sentence", "")) if hasattr(meta, "get") else "")
        if isinstance(own := getattr(answer, "sentence", ""), str):
            texts.append(own)
    return [t for t in texts if t]


@check(lambda case: light(case) and set(case.data) == {"data"})
def records_add_up(case: Case) -> None:
    """ "n of N records": N are the rows given, n those that are complete in the columns named."""
    frame = case.tables["data"]
    needed = [c for c in case.uses if not (c.endswith("N") and c[:-1] in case.uses) and c in frame]
    for sentence in sentences(usual(case.id), of_verb=True):
        for used, total in re.findall(r"([\d,]+) of ([\d,]+) records", sentence):
            n, N = (int(t.replace(",", "")) for t in (used, total))
            assert len(frame) == N or "AVISIT" in sentence, f"{sentence!r}: {len(frame)} rows were given"
            rows = len(frame.dropna(subset=[c for c in needed if c != "RIGHT"]))
            assert n == rows or case.verb == "listing" or "AVISIT" in sentence, (
                f"{sentence!r}: {rows} rows are complete"
            )


@check(lambda case: light(case) and bool(case.ids) and set(case.data) == {"data"})
def subjects_are_counted(case: Case) -> None:
    """ "n subjects" are no more than the table has, and "N records" no fewer than the subjects."""
    frame = case.tables["data"]
    for sentence in sentences(usual(case.id)):
        for count in re.findall(r"([\d,]+) subjects", sentence):
            assert int(count.replace(",", "")) <= frame[case.ids].nunique(), sentence


# --------------------------------------------------------------------------------------------------------------- levels
@check(lambda case: not case.heavy)
def limits_enclose(case: Case) -> None:
    """Limits enclose the estimate; p values, standard errors, probabilities and their limits are in their range."""
    for name, frame in frames_of(usual(case.id)).items():
        numbers = frame.select_dtypes("number").astype(float)
        if {"estimate", "conf_low", "conf_high"} <= set(numbers) and not case.wraps:
            room = 1e-9 * numbers["estimate"].abs().clip(lower=1.0)
            low = numbers["conf_low"] > numbers["estimate"] + room
            high = numbers["conf_high"] < numbers["estimate"] - room
            assert not (low | high).any(), f"{name}: {frame[low | high].iloc[0].to_dict()}"
        for column in [c for c in numbers if "p_value" in c]:
            assert numbers[column].dropna().between(0, 1).all(), f"{name}.{column}"
        if "std_error" in numbers:
            assert not (numbers["std_error"] < 0).any(), f"{name}.std_error"
        if name in case.shares:
            for column in {"estimate", "conf_low", "conf_high"} & set(numbers):
                assert numbers[column].dropna().between(0, 1).all(), f"{name}.{column}: {numbers[column].tolist()[:5]}"


def _takes_level(case: Case) -> bool:
    import inspect

    verb = getattr(ks, case.verb)
    return not case.heavy and inspect.isfunction(verb) and "level" in inspect.signature(verb).parameters


@check(lambda case: _takes_level(case) and not case.wraps)
def levels_are_nested(case: Case) -> None:
    """A higher level widens the interval and leaves the estimate."""
    results = [usual(case.id), *(attempt(case, case.tables, level=level) for level in (0.8, 0.99))]
    if all(isinstance(r, KapstatsError) for r in results[1:]):
        return  # a test without limits takes no level
    if any(isinstance(r, KapstatsError) for r in results):
        raise AssertionError(str(next(r for r in results if isinstance(r, KapstatsError))))
    frames = [frames_of(r) for r in results if isinstance(r, Answers)]
    for name, usual_one in frames[0].items():
        for narrow, wide in ((frames[1][name], usual_one), (usual_one, frames[2][name])):
            if not {"conf_low", "conf_high"} <= set(narrow.columns) or len(narrow) != len(wide):
                continue
            for column, sign in (("conf_low", 1), ("conf_high", -1)):
                a, b = (pd.to_numeric(f[column], errors="coerce").astype(float) for f in (narrow, wide))
                size = 1e-9 * a.abs().clip(lower=1.0)
                assert not (sign * (b - a) > size).any(), f"{name}.{column}"
            if "estimate" in narrow:
                a, b = (f["estimate"].to_numpy(dtype=float) for f in (narrow, wide))
                assert np.allclose(a, b, 1e-9, 1e-12, equal_nan=True), f"{name}: the estimate depends on the level"


# ---------------------------------------------------------------------------------------------------------- likelihoods
PARTIAL = ("cox", "fine_gray", "cause_specific", "recurrent")


def _logliks(result: Any) -> list[float]:
    found = getattr(result, "loglik", None)
    return [] if found is None or callable(found) else [float(np.atleast_1d(found)[-1])]


@check(lambda case: light(case) and case.verb in PARTIAL and case.id != "recurrent-counts")
def likelihood_is_possible(case: Case) -> None:
    """null <= loglik <= 0 for a partial likelihood, also when an arm has no event (the supremum)."""
    for frame in (case.tables["data"], _without_events(case)):
        found = attempt(case, {"data": frame})
        if isinstance(found, KapstatsError):
            continue
        for value in _logliks(found.result):
            assert value <= 1e-9, f"log-likelihood {value}"
        for name, rows in frames_of(found).items():
            if "statistic" in rows and name in ("tests", "anova"):
                assert not (rows["statistic"].astype(float) < -1e-9).any(), f"{name}: {rows['statistic'].tolist()}"
        assert not found.foreign, found.foreign


def _without_events(case: Case) -> pd.DataFrame:
    frame = case.tables["data"].copy()
    arm = frame[case.arm] == "KAP IV"
    for column, value in (("CNSR", 1), ("OUTCOME", "none"), ("CAUSE", 0), ("EVENT", 0), ("STATE", "none")):
        if column in frame:
            frame.loc[arm, column] = value
    return frame


@check(lambda case: light(case) and case.survival and bool(case.arm))
def arm_without_events(case: Case) -> None:
    """An arm without any event gives an answer or an error of ours; an estimate at infinity is not a number."""
    found = attempt(case, {"data": _without_events(case)})
    if isinstance(found, KapstatsError):
        return
    assert not found.foreign, found.foreign
    for name, rows in frames_of(found).items():
        if {"estimate", "std_error"} <= set(rows.columns):
            wild = rows[
                rows["std_error"].astype(float).between(50, np.inf, inclusive="left")
                & (rows["estimate"].astype(float).abs() < 60)
            ]
            if _scale(found.said[name]) == "log" or name == "coefficients":
                assert wild.empty, f"{name}: {wild.iloc[0].to_dict()}"
