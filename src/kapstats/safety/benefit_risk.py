"""Benefit beside harm: how many have to be treated for one to respond, and for one to be harmed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from kapstats import estimates, frames
from kapstats.data.conventions import in_words
from kapstats.data.flags import is_yes
from kapstats.errors import DataError
from kapstats.estimates import Estimates
from kapstats.safety import overview, rows
from kapstats.safety.follow_up import rows_of
from kapstats.safety.routes import altman

if TYPE_CHECKING:
    from kapstats.safety.incidence import Incidence

SIDES = ("estimate", "conf_low", "conf_high")


def benefit_risk(
    ae: Incidence,
    benefit: Any,
    term: str | None = None,
    *,
    method: str = "miettinen-nurminen",
    level: float = 0.95,
) -> Estimates:
    """Estimate for every group how much more often it is helped, and how much more often harmed, than the reference.

    Parameters
    ----------
    benefit : ADSL flag of those who were helped, such as "RESPFL" (a missing flag counts as not helped), over the same
        population as `ae`; or Estimates (or a table) of risk differences with a column contrast "A - B"
    term : the harm: one term, or None for any event of `ae`
    method : interval of `ks.risk_difference`

    Returns
    -------
    Estimates with contrast, the group, benefit benefit_low benefit_high, harm harm_low harm_high (risk differences),
    nnt and nnh (text, Altman's interval) and ratio: the likelihood to be helped or harmed, benefit/harm = NNH/NNT,
    NaN unless both differences are positive. It weighs one response against one event as if they mattered alike.

    References
    ----------
    Altman (1998), BMJ 317:1309. Citrome and Ketter (2013), Int J Clin Pract 67:407.
    """
    tail = rows.check_side("two", level)
    harmed = np.unique(ae.records.subject[rows_of(ae, term)])
    harm = _compared(ae, harmed, method, tail)
    helped, source = _benefit(ae, benefit, method, tail)
    both = harm.merge(helped, on="contrast", suffixes=("_harm", "_benefit"), how="inner")
    if both.empty:
        raise DataError(f"benefit: no contrast in common. The adverse events have {', '.join(harm['contrast'])}.")
    gain, loss = (both[[f"{c}_{side}" for c in SIDES]].to_numpy(dtype=float).T for side in ("benefit", "harm"))
    ratio = np.divide(gain[0], loss[0], out=np.full(len(both), np.nan), where=(gain[0] > 0) & (loss[0] > 0))
    columns = {name: gain[i] for i, name in enumerate(("benefit", "benefit_low", "benefit_high"))}
    columns |= {name: loss[i] for i, name in enumerate(("harm", "harm_low", "harm_high"))}
    frame = both[["contrast", ae.by]].assign(
        **columns,
        nnt=[altman(-d, -b, -a) for d, a, b in gain.T],
        nnh=[altman(d, a, b) for d, a, b in loss.T],
        ratio=ratio,
    )
    return Estimates(frame, _meta(ae, term, source, method, level))


def _benefit(ae: Incidence, benefit: Any, method: str, tail: float) -> tuple[pd.DataFrame, str]:
    if isinstance(benefit, str):
        adsl = ae.records.subjects
        frames.require(adsl, [benefit], "ADSL")
        helped = np.flatnonzero(is_yes(adsl[benefit], f"ADSL.{benefit}", adsl["USUBJID"]))
        unknown = int(adsl[benefit].isna().sum())
        found = _compared(ae, helped, method, tail).drop(columns=ae.by)
        return found, f"benefit: {benefit} = Y ({unknown} missing count as not helped)"
    frame = benefit.frame if isinstance(benefit, Estimates) else frames.to_pandas(benefit)
    frames.require(frame, ["contrast", *SIDES], "benefit")
    return frame[["contrast", *SIDES]], "benefit: risk differences given"


def _compared(ae: Incidence, subjects: Any, method: str, tail: float) -> pd.DataFrame:
    """Risk differences of the groups other than the reference, for subjects at these rows of ADSL."""
    size = ae.records.size
    count = np.bincount(ae.records.arm[subjects], minlength=size.size)
    found = overview.compared(ae, "", count, count, size, method, tail)
    return found.loc[found["contrast"] != "", ["contrast", ae.by, *SIDES]].reset_index(drop=True)


def _meta(ae: Incidence, term: str | None, source: str, method: str, level: float) -> dict[str, Any]:
    harm = term or "any adverse event"
    return estimates.meta(
        method=method,
        level=level,
        title=f"Benefit against {harm} by {in_words(ae.by)}",
        sentence="; ".join([f"Risk differences: {method}", f"harm: {harm}", source, *ae.records.notes]),
        warnings=ae.warnings,
        data=ae.records.fingerprint(),
        frame_kind=ae.records.kind,
        harm=harm,
    )
