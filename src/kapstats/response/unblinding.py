"""What knowing the treatment could have done to the effect: the effect by guess, and bounds under an expectancy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from kapstats import frames
from kapstats._types import FrameLike
from kapstats.errors import DataError, FormulaError, first_ids
from kapstats.estimates import Estimates, meta
from kapstats.inference.intervals import with_inference
from kapstats.response.ancova import ancova

CAVEAT = (
    "Guesses are made after randomisation and may follow the effect itself: within guesses the arms are no longer "
    "randomised, and the adjusted difference is not a causal effect."
)


def effect_by_guess(
    data: FrameLike,
    outcome: str,
    *,
    arm: str,
    guess: str,
    covariates: Sequence[str] = (),
    reference: Any = None,
    level: float = 0.95,
) -> Estimates:
    """The treatment difference as it is, within each guess, and adjusted for the guess.

    Least squares of the outcome on arm and covariates; with arm by guess for the differences within guesses; and with
    guess as a further covariate for the adjusted one.

    Parameters
    ----------
    data : one row per subject; those without outcome or guess are left out, and counted in the sentence
    outcome, arm, guess : columns
    covariates : further columns of the model (baseline)
    reference : the control arm (default: the first)

    Returns
    -------
    Estimates with ``quantity`` (unadjusted, within guess, adjusted for guess), ``guess``, ``contrast``, ``n`` and the
    usual columns; a guess that nobody in one arm made has no difference (NaN).

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> rows = pd.DataFrame({"arm": ["P", "K"] * 30, "guess": rng.choice(["P", "K", "unsure"], 60)})
    >>> rows["y"] = rng.normal(size=60) - 2.0 * (rows["arm"] == "K")
    >>> found = effect_by_guess(rows, "y", arm="arm", guess="guess", reference="P")
    >>> found["quantity"].tolist()
    ['unadjusted', 'within guess', 'within guess', 'within guess', 'adjusted for guess']
    """
    frame = frames.to_pandas(data)
    columns = [outcome, arm, guess, *covariates]
    frames.require(frame, columns)
    used = frame.dropna(subset=columns)
    order = frames.levels(used, arm, None if reference is None else _first(frame[arm], reference)).values
    guesses = frames.levels(used, guess).values
    if len(order) < 2:
        raise DataError(f"effect_by_guess: one arm only ({first_ids(order)}) among those with outcome and guess.")
    used = used.assign(
        **{
            arm: pd.Categorical(used[arm], categories=list(order), ordered=True),
            guess: pd.Categorical(used[guess], categories=guesses, ordered=True),
        }
    )
    rest = "".join(f" + `{c}`" for c in covariates)
    parts = [_differences(used, f"`{outcome}` ~ `{arm}`{rest}", arm, level).assign(quantity="unadjusted", n=len(used))]
    parts += _within(used, f"`{outcome}` ~ `{arm}`*`{guess}`{rest}", arm, guess, level)
    model = f"`{outcome}` ~ `{arm}` + `{guess}`{rest}" if len(guesses) > 1 else f"`{outcome}` ~ `{arm}`{rest}"
    parts.append(_differences(used, model, arm, level).assign(quantity="adjusted for guess", n=len(used)))
    table = pd.concat(parts, ignore_index=True)
    numbers = ["estimate", "std_error", "df", "statistic", "p_value", "conf_low", "conf_high"]
    table = table.reindex(columns=["quantity", "guess", "contrast", "n", *numbers])
    said = f"{len(used)} of {len(frame)} subjects have outcome and guess. {CAVEAT}"
    return Estimates(
        table, meta(method="effect by guess", level=level, title="Effect by guess", sentence=said, data=used)
    )


def _first(values: pd.Series, reference: Any) -> list[Any]:
    known = list(frames.levels(values.to_frame(), str(values.name)).values)
    if reference not in known:
        raise FormulaError(f"reference={reference!r} is not an arm. Arms: {first_ids(known)}.")
    return [reference, *(a for a in known if a != reference)]


def _differences(used: pd.DataFrame, formula: str, arm: str, level: float) -> pd.DataFrame:
    return ancova(formula, used).lsmeans(arm).contrast("trt.vs.ctrl", level=level).frame


def _within(used: pd.DataFrame, formula: str, arm: str, guess: str, level: float) -> list[pd.DataFrame]:
    """Differences within each guess: by one model when every arm made every guess, else guess by guess."""
    by_guess = [(value, used[used[guess] == value]) for value in used[guess].cat.categories]
    arms = used[arm].cat.categories
    if all(rows[arm].nunique() == len(arms) for _, rows in by_guess):
        table = ancova(formula, used).lsmeans(arm, by=guess).contrast("trt.vs.ctrl", level=level).frame
        found = [table[(table[guess] == value).to_numpy()] for value, _ in by_guess]
    else:
        own = formula.replace(f"*`{guess}`", "")
        found = [_alone(rows, own, arm, level) for _, rows in by_guess]
    return [
        part.assign(quantity="within guess", guess=value, n=len(rows))
        for part, (value, rows) in zip(found, by_guess, strict=True)
    ]


def _alone(rows: pd.DataFrame, formula: str, arm: str, level: float) -> pd.DataFrame:
    """Differences from the rows of one guess alone; NaN where an arm has nobody or no row is left for the variance."""
    arms = rows[arm].cat.categories
    if rows[arm].nunique() == len(arms) and len(rows) > len(arms) + 1:
        return _differences(rows, formula, arm, level)
    return pd.DataFrame({"contrast": [f"{a} - {arms[0]}" for a in arms[1:]], "estimate": np.nan})


def expectancy_bound(
    effect: Estimates | FrameLike,
    counts: dict[Any, Sequence[int]],
    expectancies: Sequence[float],
    *,
    level: float = 0.95,
) -> Estimates:
    """What is left of an effect if believing to have had the active treatment moves the outcome by so much.

    With p1 and p0 the shares that believe they had the active treatment in the active and the control arm, an
    expectancy e adds e (p1 - p0) to the difference whatever the treatment does; that is taken away, and the uncertainty
    of p1 - p0 is carried. The doubtful count as not believing.

    Parameters
    ----------
    effect : one row with ``estimate`` and ``std_error``: active minus control
    counts : active arm, then control: how many guessed active, how many control, how many were unsure
    expectancies : effects of believing, in the unit of the outcome and with its sign (-3: three points better)

    Returns
    -------
    Estimates with one row per expectancy: ``expectancy``, ``bias``, ``estimate`` (what is left) and limits;
    ``meta["tipping_point"]`` is the smallest expectancy among them at which the interval holds zero, and
    ``meta["explains_all"]`` the expectancy that would explain the whole estimate.

    Examples
    --------
    >>> effect = pd.DataFrame({"estimate": [-8.0], "std_error": [2.0]})
    >>> found = expectancy_bound(effect, {"K": [30, 5, 5], "P": [10, 20, 10]}, [0, -4, -8])
    >>> found["estimate"].tolist(), found.meta["explains_all"]
    ([-8.0, -6.0, -4.0], -16.0)
    """
    frame = effect.frame if isinstance(effect, Estimates) else frames.to_pandas(effect)
    frames.require(frame, ["estimate", "std_error"], "effect")
    if len(frame) != 1:
        raise FormulaError(f"effect: {len(frame)} rows; filter to the one contrast that is meant.")
    rows = [np.asarray(v, dtype=float) for v in counts.values()]
    if len(rows) != 2 or any(r.shape != (3,) or (r < 0).any() or r.sum() == 0 for r in rows):
        raise FormulaError("counts: two arms (active first) with counts of active, control, unsure; nobody empty.")
    n = np.array([r.sum() for r in rows])
    share = np.array([r[0] for r in rows]) / n
    gap, variance = float(share[0] - share[1]), float((share * (1 - share) / n).sum())
    estimate, error = float(frame["estimate"].iloc[0]), float(frame["std_error"].iloc[0])
    e = np.asarray(expectancies, dtype=float)
    ids = pd.DataFrame({"expectancy": e, "bias": e * gap})
    table = with_inference(ids, estimate - e * gap, np.sqrt(error**2 + e**2 * variance), np.inf, level=level)
    inside = table.loc[(table["conf_low"] <= 0) & (table["conf_high"] >= 0), "expectancy"]
    tipped = None if inside.empty else float(min(inside, key=abs))
    active, control = counts
    said = f"Believed active: {share[0]:.0%} of {active}, {share[1]:.0%} of {control}."
    all_of_it = estimate / gap if gap else None
    more: dict[str, Any] = {"tipping_point": tipped, "explains_all": all_of_it, "title": "Effect less an expectancy"}
    return Estimates(table, meta(method="bound under an expectancy", level=level, sentence=said, **more))
