"""Patterns of missing outcomes and reasons for leaving, as tables; bounds whatever was not seen."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy.special import ndtr, ndtri

from kapstats import frames
from kapstats._types import FrameLike
from kapstats.errors import DataError, FormulaError, first_ids
from kapstats.estimates import Estimates, Picture, meta
from kapstats.inference.intervals import check_level
from kapstats.kernels.one_proportion import wilson
from kapstats.response.estimand import bounds


def missing_patterns(
    data: FrameLike | Any, *, outcome: str = "CHG", arm: str = "TRT01P", visit: str = "AVISIT", subject: str = "USUBJID"
) -> Estimates:
    """Which visits were seen together, by arm: one row per pattern and arm.

    Parameters
    ----------
    data : long table or a Trial (its ADQS); visits at which nobody has an outcome are left out

    Returns
    -------
    Estimates with ``pattern`` (x seen, . missing, in visit order), ``kind`` (complete, monotone: left for good,
    intermittent: seen again, none), the arm, ``n``, ``N`` (subjects of the arm), ``percent``; the most frequent pattern
    first. ``.plot()`` draws them.

    Examples
    --------
    >>> rows = {"USUBJID": [1, 1, 2, 2], "AVISIT": [1, 2, 1, 2], "TRT01P": ["A"] * 4, "CHG": [0.0, 1.0, 2.0, None]}
    >>> missing_patterns(rows)["pattern"].tolist()
    ['xx', 'x.']
    """
    seen, who, visits = _seen(data, outcome, arm, visit, subject)
    text = pd.Series(["".join("x" if s else "." for s in row) for row in seen], index=who.index)
    sizes = who.groupby(who, observed=True).size()
    order = text.value_counts(sort=False)
    ranked = sorted(order.index, key=lambda p: (-order[p], [letter != "x" for letter in p]))
    rows = []
    for pattern in ranked:
        for group in who.cat.categories:
            n, size = int(((text == pattern) & (who == group)).sum()), int(sizes.get(group, 0))
            rows.append((pattern, _kind(pattern), group, n, size, 100 * n / size if size else np.nan))
    frame = pd.DataFrame(rows, columns=["pattern", "kind", arm, "n", "N", "percent"])
    gone, cells = int((~seen).sum()), seen.size
    said = f"{len(seen)} subjects, {len(visits)} visits, {gone} of {cells} planned values missing ({gone / cells:.1%})."
    return Estimates(
        frame, meta(method="patterns of missing values", level=None, title="Missing values", sentence=said,
                    visits=visits),
        picture=Picture("dropout", {"visits": visits}),
    )  # fmt: skip


def dropout_reasons(
    data: FrameLike | Any,
    reasons: FrameLike,
    *,
    outcome: str = "CHG",
    arm: str = "TRT01P",
    visit: str = "AVISIT",
    subject: str = "USUBJID",
    reason: str = "DCSREAS",
) -> Estimates:
    """How many of each arm had left before each visit, and why: cumulative, by reason.

    Parameters
    ----------
    data : long table or a Trial (its ADQS)
    reasons : one row per subject with `subject` and `reason` (ADSL); a subject without one has "Not stated"

    Returns
    -------
    Estimates with the arm, the visit, ``reason``, ``n`` (left for good before the visit), ``N`` and ``percent``.

    Examples
    --------
    >>> rows = {"USUBJID": [1, 1, 2, 2], "AVISIT": [1, 2, 1, 2], "TRT01P": ["A"] * 4, "CHG": [0.0, 1.0, 2.0, None]}
    >>> found = dropout_reasons(rows, {"USUBJID": [1, 2], "DCSREAS": [None, "AE"]}).frame
    >>> found.loc[found["n"] > 0, ["AVISIT", "reason", "n"]].values.tolist()
    [[2, 'AE', 1]]
    """
    seen, who, visits = _seen(data, outcome, arm, visit, subject)
    table = frames.to_pandas(reasons)
    frames.require(table, [subject, reason], "reasons")
    twice = table[subject].duplicated()
    if twice.any():
        raise DataError(f"reasons: {first_ids(table.loc[twice, subject])} stand twice; give one row per subject.")
    why = table.set_index(subject)[reason].reindex(who.index).astype("object")
    why = why.where(why.notna(), "Not stated")
    last = np.where(seen.any(axis=1), seen.shape[1] - np.argmax(seen[:, ::-1], axis=1), 0)
    left = last < seen.shape[1]
    named = why[left].value_counts()
    ranked = sorted(named.index, key=lambda r: (-named[r], str(r)))
    rows = []
    for group in who.cat.categories:
        size = int((who == group).sum())
        for k, at in enumerate(visits):
            for name in ranked:
                n = int(((who == group) & (why == name) & (last <= k)).sum())
                rows.append((group, at, name, n, size, 100 * n / size if size else np.nan))
    frame = pd.DataFrame(rows, columns=[arm, visit, "reason", "n", "N", "percent"])
    said = f"{int(left.sum())} of {len(seen)} subjects left for good before {visits[-1]}; cumulative, % of the arm."
    return Estimates(
        frame, meta(method="reasons for leaving", level=None, title="Reasons for leaving", sentence=said),
        picture=Picture("dropout_reasons"),
    )  # fmt: skip


def response_bounds(
    responders: int, observed: int, enrolled: int, *, worst: float = 0.0, best: float = 1.0, level: float = 0.95
) -> Estimates:
    """What a response proportion can be when only `observed` of `enrolled` subjects were seen (Manski 1990).

    Parameters
    ----------
    worst, best : response probability of those not seen at the two ends; 0 and 1 assume nothing

    Returns
    -------
    Estimates with ``assumption``: missing at random (the proportion of those seen, Wilson limits), worst, best (the two
    ends of the bounds), and "any" with the limits of Imbens & Manski (2004), which cover the proportion, wherever it
    lies within the bounds, with probability `level`.

    Raises
    ------
    FormulaError
        When counts or probabilities are out of range.

    References
    ----------
    Manski (1990), American Economic Review 80, 319. Imbens & Manski (2004), doi 10.1111/j.1468-0262.2004.00555.x.

    Examples
    --------
    >>> found = response_bounds(62, 100, 1000)
    >>> found["assumption"].tolist(), found["estimate"].round(3).tolist()[:3]
    (['missing at random', 'worst', 'best', 'any'], [0.62, 0.062, 0.962])
    """
    low, high = bounds(responders, observed, enrolled, worst=worst, best=best)
    if observed == 0:
        raise FormulaError("response_bounds: nobody was seen, so the data say nothing; the bounds are worst and best.")
    check_level(level)
    unseen = enrolled - observed
    errors = []
    for end, at in ((low, worst), (high, best)):
        square = (responders + at**2 * unseen) / enrolled
        errors.append(float(np.sqrt(max(square - end**2, 0.0) / enrolled)))
    c = _imbens_manski((high - low) / max(*errors, 1e-300), level)
    wilson_low, wilson_high = wilson(np.array([responders]), np.array([observed]), (1 - level) / 2)
    share = responders / observed
    rows = [
        ("missing at random", share, float(np.sqrt(share * (1 - share) / observed)), wilson_low[0], wilson_high[0]),
        ("worst", low, errors[0], np.nan, np.nan),
        ("best", high, errors[1], np.nan, np.nan),
        ("any", np.nan, np.nan, max(low - c * errors[0], 0.0), min(high + c * errors[1], 1.0)),
    ]
    frame = pd.DataFrame(rows, columns=["assumption", "estimate", "std_error", "conf_low", "conf_high"])
    said = (
        f"{observed} of {enrolled} seen ({unseen / enrolled:.0%} lost); those lost respond with {worst:g} to {best:g}."
    )
    return Estimates(frame, meta(method="bounds", level=level, title="Response whatever was not seen", sentence=said))


def _imbens_manski(width: float, level: float) -> float:
    """c with Phi(c + width) - Phi(-c) = level: between the one-sided quantile (wide bounds) and the two-sided one."""
    low, high = float(ndtri(level)), float(ndtri(0.5 + level / 2))
    for _ in range(60):
        c = (low + high) / 2
        low, high = (c, high) if ndtr(c + width) - ndtr(-c) < level else (low, c)
    return high


def _seen(data: Any, outcome: str, arm: str, visit: str, subject: str) -> tuple[np.ndarray, pd.Series, tuple[Any, ...]]:
    """(n, m) whether each subject has an outcome at each visit; the arm by subject; the visits."""
    frame = frames.to_pandas(getattr(data, "adqs", data))
    frames.require(frame, [subject, arm, visit, outcome])
    frame = frame.assign(**{outcome: frames.numbers(frame, outcome)})
    levels = frames.levels(frame, visit).values
    met = set(frame.loc[frame[outcome].notna(), visit])
    visits = tuple(v for v in levels if v in met)
    if not visits:
        raise DataError(f"{outcome}: no outcome at any visit.")
    several = frame.groupby(subject, observed=True)[arm].nunique() > 1
    if several.any():
        raise FormulaError(f"{arm}: {first_ids(several.index[several])} are in several arms.")
    order = frames.levels(frame, arm).values
    one = frame.drop_duplicates(subject).set_index(subject)[arm].astype("object")
    who = pd.Series(pd.Categorical(one, categories=list(order), ordered=True), index=one.index, name=arm)
    known = frame[frame[outcome].notna()].astype({visit: "object"})
    row = {s: i for i, s in enumerate(who.index)}
    seen = np.zeros((len(who), len(visits)), dtype=bool)
    seen[known[subject].map(row).to_numpy(dtype=int), known[visit].map({v: k for k, v in enumerate(visits)})] = True
    return seen, who, visits


def _kind(pattern: str) -> str:
    if "." not in pattern:
        return "complete"
    if "x" not in pattern:
        return "none"
    return "monotone" if "x" not in pattern[pattern.index(".") :] else "intermittent"
