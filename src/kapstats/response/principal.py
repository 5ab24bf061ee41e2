"""The effect in a principal stratum: those who would not have the intercurrent event under active treatment."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from kapstats import frames
from kapstats._types import FrameLike
from kapstats.errors import DataError, EstimabilityError, FormulaError, first_ids
from kapstats.estimates import Estimates, meta
from kapstats.formula import design, expressions
from kapstats.inference.intervals import with_inference
from kapstats.kernels.principal_score import stratum_means


def principal_effect(
    data: FrameLike,
    outcome: str,
    *,
    arm: str,
    event: str,
    covariates: str,
    reference: Any = None,
    replicates: int = 500,
    seed: int = 1,
    level: float = 0.95,
) -> Estimates:
    """Difference of means among those who would not have the event under active treatment.

    Under active treatment they are the ones without the event. Who they are among controls is not seen: each control is
    weighted by the probability of no event given the covariates, fitted in the active arm by logistic regression.

    Parameters
    ----------
    data : one row per subject, two arms
    outcome : column; subjects without it keep their part in the model of the event
    arm, reference : column of the arm and its control (default: the first level)
    event : column that says whether the subject had the event (1/0, True/False), known for everybody
    covariates : right-hand side of the model of the event, of baseline columns: ``"BASE + AGE"``
    replicates : bootstrap samples (within arms) for the standard error

    Returns
    -------
    Estimates with ``quantity``: principal stratum (weighted), left out (everybody with the event dropped from both
    arms, which compares different people), all (with an outcome); ``meta["share"]`` is the size of the stratum.

    Raises
    ------
    DataError, EstimabilityError
        When the event is not known for somebody, or everybody or nobody under active treatment had it.

    Notes
    -----
    Right under principal ignorability: given the covariates, those who would have the event and those who would not do
    not differ in their outcome under control. The data cannot show that; choose covariates that predict both.

    References
    ----------
    Ding & Lu (2017), doi 10.1111/rssb.12191. Bornkamp et al. (2021), doi 10.1002/pst.2104.

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> rows = pd.DataFrame({"arm": ["P", "K"] * 100, "base": rng.normal(size=200)})
    >>> rows["stopped"] = rng.random(200) < 1 / (1 + np.exp(1 - rows["base"]))
    >>> rows["y"] = rows["base"] - 2.0 * (rows["arm"] == "K") + rng.normal(size=200)
    >>> found = principal_effect(rows, "y", arm="arm", event="stopped", covariates="base", reference="P")
    >>> found["quantity"].tolist()
    ['principal stratum', 'left out', 'all']
    """
    frame = frames.to_pandas(data)
    frames.require(frame, [outcome, arm, event])
    arms = frames.levels(frame, arm).values
    control = reference if reference is not None or not arms else arms[0]
    if len(arms) != 2 or control not in arms:
        raise FormulaError(f"principal_effect: two arms and one of them as reference; arms: {first_ids(arms)}.")
    if frame[event].isna().any() or not frame[event].isin([0, 1]).all():
        raise DataError(f"{event}: has to be 0 or 1 (False or True) for everybody.")
    needed = list(expressions.columns_in(covariates))
    frames.require(frame, needed)
    lost = frame[needed].isna().any(axis=1)
    if lost.any():
        raise DataError(f"{first_ids(needed)}: missing for {int(lost.sum())} subjects; they have to be known for all.")
    built = design.build(covariates, frame)
    had = frame[event].astype(bool).to_numpy()
    active = (frame[arm] != control).to_numpy()
    if had[active].all() or not had[active].any():
        raise EstimabilityError(f"{event}: all or none under active treatment; there is no stratum to tell apart.")
    y = frame[outcome].to_numpy(dtype=float, na_value=np.nan)
    times = np.concatenate([np.ones((1, len(y))), _resampled(active, replicates, seed)])
    means, share = stratum_means(built.X, y, active, had, times)
    others = [_plain(y, active, np.ones(len(y), bool) if keep is None else keep, times) for keep in (~had, None)]
    drawn = np.column_stack([means[:, 0] - means[:, 1], *others])
    other = next(a for a in arms if a != control)
    ids = pd.DataFrame({"quantity": ["principal stratum", "left out", "all"], "contrast": f"{other} - {control}"})
    table = with_inference(ids, drawn[0], np.nanstd(drawn[1:], axis=0, ddof=1), np.inf, level=level)
    said = (
        f"{len(frame)} subjects; the stratum without the event under {other} is {share[0]:.0%}. Standard errors from "
        f"{replicates} bootstrap samples. Right under principal ignorability given {covariates}, which is not testable."
    )
    return Estimates(table, meta(method="principal score weighting", level=level, title="Principal stratum",
                                 sentence=said, data=frame, share=float(share[0])))  # fmt: skip


def _resampled(active: Any, replicates: int, seed: int) -> Any:
    rng, counts = np.random.default_rng(seed), np.zeros((replicates, len(active)))
    for group in (active, ~active):
        where = np.flatnonzero(group)
        counts[:, where] = rng.multinomial(len(where), np.full(len(where), 1 / len(where)), size=replicates)
    return counts


def _plain(y: Any, active: Any, keep: Any, times: Any) -> Any:
    """Difference of raw means (B,) among `keep`."""
    known, value = np.isfinite(y) & keep, np.nan_to_num(y)
    with np.errstate(invalid="ignore"):
        means = [(times * (g & known)) @ value / (times * (g & known)).sum(axis=1) for g in (active, ~active)]
    return means[0] - means[1]
