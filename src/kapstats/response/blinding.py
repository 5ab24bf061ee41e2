"""How well the blind held: the indices of James and of Bang, and the effect by guess."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from kapstats import frames
from kapstats._types import FloatArray, FrameLike
from kapstats.errors import DataError, FormulaError, choose, first_ids, warn
from kapstats.estimates import Estimates, meta
from kapstats.inference.intervals import with_inference

UNSURE = "unsure"


def blinding_index(
    data: FrameLike | None = None,
    *,
    arm: str | None = None,
    guess: str | None = None,
    counts: Mapping[Any, Sequence[int]] | None = None,
    unsure: Any = UNSURE,
    method: str = "bang",
    level: float = 0.95,
) -> Estimates:
    """Blinding index of James (one for the trial) or Bang (one per arm).

    Bang: (correct - incorrect) / n in each arm; 0 is a perfect blind, 1 complete unblinding, negative opposite
    guessing. James: 1 is a perfect blind, 0.5 guessing by chance, 0 complete unblinding; doubt counts for the blind.

    Parameters
    ----------
    data, arm, guess : table with the arm and the guessed arm (or `unsure`; missing counts as not asked)
    counts : instead of `data`: per arm, how many guessed each arm (in the mapping's order) and how many were unsure
    method : "bang" or "james" (two arms)

    Returns
    -------
    Estimates with ``estimate std_error conf_low conf_high``; the standard errors are those of the multinomial.

    Raises
    ------
    FormulaError, DataError
        When a guess is no arm, an arm has nobody, or James is asked of more than two arms.

    References
    ----------
    James et al. (1996), Statistics in Medicine 15, 1421. Bang, Ni & Davis (2004), Controlled Clinical Trials 25, 143.

    Examples
    --------
    >>> found = blinding_index(counts={"KAP": [82, 25, 170], "Placebo": [27, 29, 83]})
    >>> found["estimate"].round(4).tolist()
    [0.2058, 0.0144]
    """
    choose(method, ("bang", "james"), "method")
    table = (
        _counted(data, arm, guess, unsure) if counts is None else {k: np.asarray(v, float) for k, v in counts.items()}
    )
    arms = list(table)
    rows = np.array([table[a] for a in arms])
    if rows.shape != (len(arms), len(arms) + 1) or (rows < 0).any():
        raise FormulaError(
            f"counts: each of {len(arms)} arms needs {len(arms) + 1} counts (one per guess, then unsure)."
        )
    empty = [a for a, n in zip(arms, rows.sum(axis=1), strict=True) if n == 0]
    if empty:
        raise DataError(f"blinding_index: nobody in {first_ids(empty)} was asked for a guess.")
    if method == "james" and len(arms) != 2:
        raise FormulaError(f"method='james' compares two arms, not {len(arms)}; use 'bang'.")
    ids, estimate, error = _bang(arms, rows) if method == "bang" else _james(rows)
    sure = error == 0
    notes = [warn("All guesses of an arm are alike, so its index has no standard error.")] if sure.any() else []
    error = np.where(sure, np.nan, error)
    frame = with_inference(ids, estimate, error, np.inf, level=level, null=0.0 if method == "bang" else 0.5)
    sentence = f"{int(rows.sum())} guesses; {int(rows[:, -1].sum())} unsure."
    name = f"{method.title()} blinding index"
    return Estimates(frame, meta(method=name, level=level, sentence=sentence, warnings=notes))


def _counted(data: FrameLike | None, arm: str | None, guess: str | None, unsure: Any) -> dict[Any, FloatArray]:
    if data is None or arm is None or guess is None:
        raise FormulaError("blinding_index: give data with arm= and guess=, or counts=.")
    frame = frames.to_pandas(data)
    frames.require(frame, [arm, guess])
    arms = frames.levels(frame, arm).values
    known = [*arms, unsure]
    strange = [g for g in frame[guess].dropna().unique() if g not in known]
    if strange:
        raise DataError(f"{guess}: {first_ids(strange)} is neither an arm nor {unsure!r}.")
    table = pd.crosstab(frame[arm].astype("object"), frame[guess].astype("object"))
    table = table.reindex(index=list(arms), columns=known, fill_value=0)
    return {a: table.loc[a].to_numpy(dtype=float) for a in arms}


def _bang(arms: list[Any], rows: FloatArray) -> tuple[pd.DataFrame, FloatArray, FloatArray]:
    n = rows.sum(axis=1)
    correct = np.diag(rows) / n
    wrong = (rows[:, :-1].sum(axis=1) - np.diag(rows)) / n
    index = correct - wrong
    return pd.DataFrame({"arm": arms}), index, np.sqrt((correct + wrong - index**2) / n)


def _james(rows: FloatArray) -> tuple[pd.DataFrame, FloatArray, FloatArray]:
    """The index and its delta-method error over the six cell probabilities, by complex-step derivatives."""
    n = rows.sum()
    p = rows.ravel() / n
    step = 1e-30
    gradient = np.array([_james_of((p + step * 1j * e).reshape(rows.shape)).imag / step for e in np.eye(p.size)])
    variance = (np.diag(p) - np.outer(p, p)) / n
    index = _james_of(p.reshape(rows.shape).astype(complex)).real
    error = np.sqrt(gradient @ variance @ gradient)
    return pd.DataFrame({"arm": ["all"]}), np.array([index]), np.array([error])


def _james_of(p: Any) -> Any:
    """{1 + P_DK + (1 - P_DK) K} / 2 with weights 0 (correct) and 1/2 (wrong); all unsure is 1."""
    unsure = p[:, -1].sum()
    sure = 1 - unsure
    if sure.real == 0:
        return 1 + 0j
    weight = 0.5 * (1 - np.eye(2))
    observed = (weight * p[:, :2]).sum() / sure
    expected = (weight * np.outer(p[:, :2].sum(axis=1), p[:, :2].sum(axis=0))).sum() / sure**2
    kappa = (observed - expected) / expected if expected != 0 else 0.0
    return (1 + unsure + sure * kappa) / 2
