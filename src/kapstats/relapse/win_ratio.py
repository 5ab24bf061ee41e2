"""Win ratio, net benefit and win odds of prioritised outcomes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from kapstats import estimates
from kapstats._types import BoolArray, FrameLike
from kapstats.errors import EstimabilityError, FormulaError
from kapstats.estimates import Estimates
from kapstats.formula.expressions import evaluate
from kapstats.formula.split import Surv, parse
from kapstats.inference.intervals import check_level, wald
from kapstats.kernels.risk_sets import merge_close
from kapstats.kernels.win_statistics import Outcome, Wins, compare
from kapstats.relapse.regression import ratio_row, refuse_terms
from kapstats.relapse.surv_data import SurvData, group_rows, group_terms, unpack, unstated_order


def win_ratio(
    formula: str,
    data: FrameLike,
    *,
    then: Sequence[str] = (),
    level: float = 0.95,
    order: Mapping[str, Sequence[Any]] | None = None,
) -> Estimates:
    """Every subject of an arm compared with every subject of the reference arm on outcomes in order of importance.

    The estimands are p_w / p_l (win ratio), p_w - p_l (net benefit) and (p_w + p_t / 2) / (p_l + p_t / 2) (win odds),
    p_w, p_l and p_t the shares of pairs won, lost and tied. Of two event times the one whose event comes while the
    other subject is still seen without it loses; pairs that censoring leaves open go to the next outcome. An event and
    a censoring on the same day leave the pair open: whether the censored subject had the event later that day is not
    known. (In survival curves and tests, which need an order, events come before censorings on the same day.)

    Parameters
    ----------
    formula : ``Surv(time, event) ~ arm``, the most important outcome; the first level is the reference
    then : the further outcomes: ``"Surv(time, event)"`` (later is better) or an expression of which larger values are
        better, such as ``"-MADRS"``

    Returns
    -------
    Estimates : rows ``quantity`` "win ratio", "net benefit", "win odds" per contrast. Ratios are natural with inference
        on the log scale. ``.meta["pairs"]``: pairs, wins and losses by outcome

    Raises
    ------
    EstimabilityError
        Fewer than two arms, or no pair is won or none is lost (the ratio has no error then).

    Agrees with
    -----------
    Brute force over all pairs in R 4.2: wins, estimates and standard errors below 1e-10.

    References
    ----------
    Pocock, Ariti, Collier and Wang (2012) Eur Heart J 33: 176-182. Bebu and Lachin (2016) Biostatistics 17: 178-187.
    Brunner, Vandemeulebroecke and Muetze (2021) Stat Med 40: 3367-3384.

    Examples
    --------
    >>> import pandas as pd
    >>> data = pd.DataFrame({"t": [2, 8, 9, 4, 5, 6.0], "e": [1, 0, 1, 1, 1, 0], "arm": [1, 1, 1, 0, 0, 0]})
    >>> win_ratio("Surv(t, e) ~ arm", data)["estimate"].round(4).tolist()
    [1.3333, 0.1111, 1.25]
    """
    check_level(level)
    surv = unpack(formula, data, order=order, extra=_expressions(then), allow=("right",))
    refuse_terms(surv, "the win ratio")
    groups = group_rows(surv.frame, group_terms(surv.formula), order)
    if len(groups) < 2:
        raise EstimabilityError(f"{formula!r}: pairs need two arms with rows; here is {len(groups)}.")
    outcomes = [(surv.time, surv.event), *(_outcome(text, surv) for text in then)]
    zero = groups.codes == 0
    rows, tables = [], []
    for g in range(1, len(groups)):
        found = compare(*([_taken(o, arm) for o in outcomes] for arm in (groups.codes == g, zero)))
        contrast = tuple(f"{groups.names[g]} {sign} {groups.names[0]}" for sign in ("/", "-", "/"))
        rows += _rows(found, contrast, level)
        names = [surv.formula.text.split("~")[0].strip(), *then]
        counts = {"outcome": names, "pairs": found.pairs, "wins": found.wins, "losses": found.losses}
        tables.append(pd.DataFrame({"contrast": contrast[1], **counts}))
    method = f"win statistics of {len(outcomes)} prioritised outcomes, U-statistic variance"
    meta = estimates.meta(
        method=method,
        level=level,
        title="Win ratio",
        sentence=f"{method}; {surv.sentence()}",
        estimand="shares of pairs won and lost against the reference arm",
        scale="natural",
        measures={"quantity": {q: q for q in ("win ratio", "net benefit", "win odds")}},
        conventions=(
            "equal times are a tie, an event and a censoring on the same day too",
            "ratios: inference on the log scale",
        ),
        warnings=(*surv.warnings, *unstated_order(groups)),
        data=surv.data_print,
        frame_kind=surv.kind,
        pairs=pd.concat(tables, ignore_index=True),
    )
    return Estimates(pd.DataFrame(rows), meta)


def _surv(text: str) -> Surv | None:
    """The Surv of a further outcome, None for an expression."""
    if not text.strip().startswith("Surv("):
        return None
    found = parse(f"{text} ~ 1").response
    if not isinstance(found, Surv) or len(found.args) != 2:
        raise FormulaError(f"then: {text!r}: an event time is Surv(time, event).")
    return found


def _expressions(then: Sequence[str]) -> list[str]:
    """What must not be missing for the further outcomes."""
    if isinstance(then, str):
        raise FormulaError(f"then={then!r}: give a list of outcomes, such as [{then!r}].")
    found = [_surv(text) for text in then]
    return [e for text, surv in zip(then, found, strict=True) for e in ([text] if surv is None else surv.args)]


def _outcome(text: str, surv: SurvData) -> Outcome:
    times = _surv(text)
    if times is None:
        return merge_close(evaluate(text, surv.frame))[0], None
    found = unpack(f"{text} ~ 1", surv.frame)
    return found.time, found.event


def _taken(outcome: Outcome, rows: BoolArray) -> Outcome:
    return outcome[0][rows], None if outcome[1] is None else outcome[1][rows]


def _rows(found: Wins, contrast: tuple[str, ...], level: float) -> list[dict[str, Any]]:
    w, l, c = found.p_win, found.p_loss, found.covariance
    if not (w > 0 and l > 0):
        raise EstimabilityError(
            f"{contrast[1]}: {found.wins.sum()} wins and {found.losses.sum()} losses among {found.pairs} pairs; the "
            "win ratio needs both. Add an outcome that tells more pairs apart."
        )
    benefit = found.variance_win + found.variance_loss - 2.0 * c
    log_ratio = np.sqrt(found.variance_win / w**2 + found.variance_loss / l**2 - 2.0 * c / (w * l))
    half = (1.0 + w - l) / 2.0
    log_odds = np.sqrt(benefit) / (2.0 * half * (1.0 - half))
    return [
        ratio_row("win ratio", contrast[0], float(np.log(w / l)), log_ratio, level),
        {"quantity": "net benefit", "contrast": contrast[1], "estimate": w - l, "std_error": float(np.sqrt(benefit)),
         "df": np.inf, **{k: float(v) for k, v in wald(w - l, np.sqrt(benefit), level=level).items()}},
        ratio_row("win odds", contrast[2], float(np.log(half / (1.0 - half))), log_odds, level),
    ]  # fmt: skip
