"""Crossover trials: treatment effect within subjects, period, sequence and carry-over, and the first period alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from kapstats import frames
from kapstats._types import FrameLike
from kapstats.errors import DataError, first_ids
from kapstats.estimates import Estimates
from kapstats.formula.design import level_text
from kapstats.response.ancova import AncovaFit, ancova
from kapstats.response.lmm import LmmFit, lmm


@dataclass(frozen=True)
class Crossover:
    """Analyses of one crossover trial, made by `crossover`.

    fit : mixed model with sequence, period and treatment, subjects random; first : ANCOVA of the first period alone
    """

    fit: LmmFit
    first: AncovaFit
    treatment_column: str
    period_column: str
    sequence_column: str

    def treatment(self, *, ref: Any = None, adjust: str = "none", level: float = 0.95) -> Estimates:
        """Contrasts of treatments against the control, within subjects where subjects have several periods."""
        return self.fit.lsmeans(self.treatment_column).contrast(ref=ref, adjust=adjust, level=level)

    def tests(self) -> Estimates:
        """F tests of sequence, period and treatment.

        In a two-period two-sequence trial the sequence test is the test of unequal carry-over (Grizzle 1965): it
        compares subjects, so it has little power; it should not decide which analysis is primary (Freeman 1989).
        """
        return self.fit.anova()

    def carry_over(self) -> Estimates:
        """The sequence row of `tests`."""
        return self.tests().filter(term=self.sequence_column)

    def first_period(self, *, ref: Any = None, level: float = 0.95) -> Estimates:
        """Contrasts of treatments from the first period alone, a parallel-group analysis free of carry-over."""
        return self.first.lsmeans(self.treatment_column).contrast(ref=ref, level=level)


def crossover(
    data: FrameLike,
    *,
    response: str,
    subject: str,
    period: str,
    treatment: str,
    sequence: str | None = None,
    covariates: Sequence[str] = (),
    df: str | None = None,
    order: Mapping[str, Sequence[Any]] | None = None,
) -> Crossover:
    """Analyse a crossover trial.

    Estimates the treatment effect in y = mu + sequence + period + treatment + subject + e, subjects random, by REML.

    Parameters
    ----------
    data : one row per subject and period
    response, subject, period, treatment : columns
    sequence : column of the randomised sequence; default the treatments in period order
    covariates : further columns of the model (a baseline per period)
    df : as in `lmm`

    Returns
    -------
    Crossover

    Raises
    ------
    DataError
        When no subject has two periods.

    Agrees with
    -----------
    R lmerTest 3.1-3 on the same model, 1e-6; for two periods and complete data the paired analysis by period.

    References
    ----------
    Grizzle JE (1965). The two-period change-over design and its use in clinical trials. Biometrics 21, 467-480.
    doi:10.2307/2528104
    Freeman PR (1989). The performance of the two-stage analysis of two-treatment, two-period crossover trials.
    Statistics in Medicine 8, 1421-1432. doi:10.1002/sim.4780081202

    Examples
    --------
    >>> import pandas as pd
    >>> d = pd.DataFrame({"ID": [1, 1, 2, 2, 3, 3, 4, 4], "PERIOD": [1, 2] * 4, "TRT": list("PKPKKPKP")})
    >>> d["Y"] = [20.0, 14, 24, 19, 15, 22, 12, 16]
    >>> c = crossover(d, response="Y", subject="ID", period="PERIOD", treatment="TRT", order={"TRT": ["P", "K"]})
    >>> c.treatment()["estimate"].round(2).tolist()
    [-5.5]
    """
    frame = frames.to_pandas(data)
    frames.tell_unused(order, frame)
    frames.require(frame, [response, subject, period, treatment, *covariates])
    orders = {**dict(order or {}), period: list(frames.levels(frame, period, dict(order or {}).get(period)).values)}
    orders.setdefault(treatment, list(frames.levels(frame, treatment).values))
    if sequence is None:
        sequence = "SEQUENCE_"
        frame = frame.assign(**{sequence: _sequences(frame, subject, period, treatment, orders)})
    name = sequence
    orders.setdefault(name, list(frames.levels(frame, name).values))
    _check_pairs(frame, response, subject)
    more = "".join(f" + {c}" for c in covariates)
    fixed = f"{response} ~ {name} + factor({period}) + {treatment}{more}"
    fit = lmm(f"{fixed} + (1 | {subject})", frame, df=df, order=orders)
    early = frame[frame[period] == orders[period][0]]
    first = ancova(f"{response} ~ {treatment}{more}", early, order=orders)
    return Crossover(fit, first, treatment, period, name)


def _sequences(
    frame: pd.DataFrame, subject: str, period: str, treatment: str, orders: Mapping[str, Sequence[Any]]
) -> pd.Series:
    """Each subject's treatments in period order, joined; dropouts take the complete sequence that they began."""
    place = {p: i for i, p in enumerate(orders[period])}
    ordered = frame.assign(_place=frame[period].map(place).astype(float)).sort_values("_place", kind="stable")
    text = ordered[treatment].astype("object").map(level_text)
    found = text.groupby(ordered[subject], sort=False, observed=True).agg(tuple)
    longest = max(map(len, found), default=0)
    complete = {s for s in found if len(s) == longest}

    def whole(seen: tuple[str, ...]) -> str:
        """A dropout's sequence, when only one complete sequence begins as it does."""
        fits = [s for s in complete if s[: len(seen)] == seen]
        return " ".join(fits[0] if len(fits) == 1 else seen)

    return frame[subject].map(found.map(whole))


def _check_pairs(frame: pd.DataFrame, response: str, subject: str) -> None:
    complete = frame[frame[response].notna()]
    counts = complete.groupby(subject, observed=True).size()
    if not (counts > 1).any():
        raise DataError(
            f"{subject}: no subject has a response in two periods ({len(counts)} subjects, first "
            f"{first_ids(counts.index.tolist())}). A parallel-group trial is analysed with ks.ancova."
        )
