"""Does the risk of an adverse event rise with dose?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from kapstats import estimates
from kapstats._types import FloatArray
from kapstats.errors import DataError, EstimabilityError
from kapstats.estimates import Estimates
from kapstats.kernels import trend as kernel
from kapstats.safety import rows


def trend_test(x: Any, n: Any, scores: Any = None, *, exact: bool = True, data: Any = None) -> Estimates:
    """Test a trend of proportions over ordered groups (Cochran-Armitage), asymptotically and exactly.

    Parameters
    ----------
    x, n : events and subjects of the groups, in order
    scores : score of each group (its dose); by default 0, 1, 2, ...
    exact : also enumerate the conditional distribution

    Returns
    -------
    Estimates with rows method: cochran-armitage (binomial variance, as R prop.trend.test), permutation (its variance
    is N/(N-1) times larger, as in the CMH correlation statistic), departure (Pearson's rest, df = groups - 2),
    exact-greater, exact-less, exact-two (|T - E|), exact-central (twice the smaller tail). Without variation p = 1.

    Agrees with
    -----------
    R 4.2.2 prop.trend.test, coin 1.4-2 and enumeration, 1e-8.

    References
    ----------
    Armitage (1955), Biometrics 11:375.

    Examples
    --------
    >>> trend_test([0, 1, 3, 5], [8, 7, 9, 8]).filter(method="exact-greater")["p_value"].round(6).tolist()
    [0.002623]
    """
    (x, n), kind = rows.arrays(data, x=x, n=n)
    score = np.arange(x.size, dtype=float) if scores is None else rows.arrays(data, scores=scores)[0][0]
    if score.size != x.size or np.isnan(score).any():
        raise DataError(f"scores: {score.size} for {x.size} groups. Give one number per group.")
    if not rows.check_counts(x=x, n=n).all() or x.size < 2:
        raise DataError("trend_test needs at least two groups with complete counts.")
    rows.check_within(x, n, ("x", "n"))
    plain, permuted = (kernel.cochran_armitage(x, n, score, p) for p in (False, True))
    found: list[tuple[str, float, float, float]] = [
        ("cochran-armitage", plain.z, np.nan, plain.p),
        ("permutation", permuted.z, np.nan, permuted.p),
        ("departure", plain.departure, float(plain.df), plain.departure_p),
    ]
    if exact:
        found += [(f"exact-{k}", np.nan, np.nan, p) for k, p in _exact(x, n, score).items()]
    frame = pd.DataFrame(found, columns=["method", "statistic", "df", "p_value"])
    sentence = f"Trend over {x.size} groups, scores {', '.join(f'{s:g}' for s in score)}; {int(n.sum())} subjects"
    description = estimates.meta(
        method="Cochran-Armitage", level=None, title="Trend", sentence=sentence, data=frame, frame_kind=kind
    )
    return Estimates(frame, description)


def _exact(x: FloatArray, n: FloatArray, score: FloatArray) -> dict[str, float]:
    try:
        return kernel.exact_trend(x, n, score)
    except OverflowError as many:
        raise EstimabilityError(
            f"trend_test: too many tables to enumerate exactly ({many}). Use exact=False, or scores that are multiples "
            "of a common step, such as 0, 1, 2."
        ) from None
