"""Two groups compared within strata: pooled differences and ratios, association, homogeneity.

"Stratified Miettinen-Nurminen" means three things, and each has its name here: ``miettinen-nurminen`` (the score with
fixed Mantel-Haenszel weights, whose test of no difference is Cochran-Mantel-Haenszel's),
``miettinen-nurminen-iterative`` (the weights of the paper, which follow the value tested) and ``summary-score`` (SAS
FREQ: inverse-variance pool of the midpoints of the strata's intervals).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from kapstats._types import FloatArray
from kapstats.errors import DataError, FormulaError, choose, warn
from kapstats.estimates import Estimates
from kapstats.inference.intervals import wald
from kapstats.kernels import exact
from kapstats.kernels import stratified_tables as kernel
from kapstats.kernels import two_proportions as two
from kapstats.safety import rows
from kapstats.safety import two_by_two as pairs
from kapstats.safety.rate import normal_p

if TYPE_CHECKING:
    from kapstats.safety.incidence import Incidence

Columns = dict[str, FloatArray]
Table = tuple[FloatArray, FloatArray, FloatArray, FloatArray]
Compute = Callable[[Table, float, str], Columns]


def _score(corrected: bool) -> Compute:
    def compute(table: Table, tail: float, side: str) -> Columns:
        low, high = kernel.score_difference_limits(*table, tail, corrected)
        z = kernel.score_z(*table, corrected)
        return _columns(kernel.difference(*table), low, high, statistic=z, p_value=normal_p(z, side))

    return compute


def _ratio_score(kind: str) -> Compute:
    def compute(table: Table, tail: float, side: str) -> Columns:
        low, high = kernel.score_ratio_limits(*table, tail, kind)
        z = kernel.score_z(*table, True)
        estimate = kernel.risk_ratio(*table)[0] if kind == "risk" else kernel.odds_ratio(*table)[0]
        return _columns(estimate, low, high, statistic=z, p_value=normal_p(z, side))

    return compute


def _wald(estimate: FloatArray, error: FloatArray, tail: float, side: str) -> Columns:
    level = 1 - 2 * tail if side == "two" else 1 - tail
    inference = wald(estimate, error, level=level, side=side)
    return {"estimate": estimate, "std_error": error, **inference}


def _log_wald(estimate: FloatArray, error: FloatArray, tail: float, side: str) -> Columns:
    with np.errstate(divide="ignore"):
        on_log = _wald(np.log(estimate), error, tail, side)
    low, high = two.log_limits(estimate, error, tail)
    return {**on_log, "estimate": estimate, "conf_low": low, "conf_high": high}


def _mantel_haenszel(table: Table, tail: float, side: str) -> Columns:
    return _wald(kernel.difference(*table), kernel.sato_error(*table), tail, side)


def _greenland_robins(table: Table, tail: float, side: str) -> Columns:
    return _wald(kernel.difference(*table), kernel.greenland_robins_error(*table), tail, side)


def _inverse_variance(table: Table, tail: float, side: str) -> Columns:
    error = two.wald_difference_error(*table)
    return _wald(*kernel.inverse_variance(two.difference(*table), error**2), tail, side)


def _iterative(table: Table, tail: float, side: str) -> Columns:
    estimate, low, high = kernel.iterative_difference(*table, tail)
    z = kernel.score_z(*table, True)
    return _columns(estimate, low, high, statistic=z, p_value=normal_p(z, side))


def _summary(corrected: bool) -> Compute:
    def compute(table: Table, tail: float, side: str) -> Columns:
        return _wald(*kernel.summary_score(*table, tail, corrected), tail, side)

    return compute


def _newcombe(table: Table, tail: float, side: str) -> Columns:
    low, high = kernel.newcombe(*table, tail)
    return _columns(kernel.difference(*table), low, high)


def _mh_ratio(table: Table, tail: float, side: str) -> Columns:
    return _log_wald(*kernel.risk_ratio(*table), tail, side)


def _mh_odds(table: Table, tail: float, side: str) -> Columns:
    return _log_wald(*kernel.odds_ratio(*table), tail, side)


def _woolf(table: Table, tail: float, side: str) -> Columns:
    error = two.woolf_error(*table)
    with np.errstate(divide="ignore"):
        pooled, pooled_error = kernel.inverse_variance(np.log(two.odds_ratio(*table)), error**2)
    return _log_wald(np.exp(pooled), pooled_error, tail, side)


def _exact_odds(mid_p: bool) -> Compute:
    def compute(table: Table, tail: float, side: str) -> Columns:
        kind = "central" if mid_p and side == "two" else side
        found = []
        for row in range(table[0].shape[0]):
            cells = [part[row] for part in table]
            dist = exact.combine_strata(*(part[_informative(*cells)] for part in cells))
            low, high = exact.odds_ratio_limits(dist, tail, mid_p)
            found.append((exact.odds_ratio_estimate(dist), low, high, exact.fisher_p(dist, kind, mid_p)))
        estimate, low, high, p = (np.concatenate(part) for part in zip(*found, strict=True))
        return _columns(estimate, low, high, p_value=p)

    return compute


def _informative(x1: FloatArray, n1: FloatArray, x2: FloatArray, n2: FloatArray) -> Any:
    """Strata that are not degenerate given their margins."""
    m = x1 + x2
    return (n1 > 0) & (n2 > 0) & (m > 0) & (m < n1 + n2)


def _columns(estimate: FloatArray, low: FloatArray, high: FloatArray, **tested: FloatArray) -> Columns:
    return {"estimate": estimate, **tested, "conf_low": low, "conf_high": high}


DIFFERENCE: dict[str, Compute] = {
    "miettinen-nurminen": _score(True),
    "farrington-manning": _score(False),
    "miettinen-nurminen-iterative": _iterative,
    "summary-score": _summary(True),
    "summary-score-uncorrected": _summary(False),
    "newcombe": _newcombe,
    "mantel-haenszel": _mantel_haenszel,
    "greenland-robins": _greenland_robins,
    "inverse-variance": _inverse_variance,
}
RISK_RATIO: dict[str, Compute] = {"miettinen-nurminen": _ratio_score("risk"), "mantel-haenszel": _mh_ratio}
ODDS_RATIO: dict[str, Compute] = {
    "miettinen-nurminen": _ratio_score("odds"),
    "mantel-haenszel": _mh_odds,
    "inverse-variance": _woolf,
    "conditional-exact": _exact_odds(False),
    "mid-p": _exact_odds(True),
}
METHODS = {"risk-difference": DIFFERENCE, "risk-ratio": RISK_RATIO, "odds-ratio": ODDS_RATIO}


def stratified(
    given: Any,
    strata: Any,
    method: str,
    measure: str = "risk-difference",
    *,
    level: float = 0.95,
    side: str = "two",
    data: Any = None,
    term: Any = None,
) -> Estimates:
    """Estimate one risk difference, risk ratio or odds ratio over strata.

    Parameters
    ----------
    given : x1, n1, x2, n2 with one row per stratum (and term)
    strata : label of every row
    method : of a risk difference: miettinen-nurminen (score with fixed Mantel-Haenszel weights; at 0 the CMH test),
        farrington-manning (the same without N/(N-1)), miettinen-nurminen-iterative (their own weights, which follow the
        value tested), summary-score (SAS: inverse-variance pool of the midpoints of the strata's score intervals),
        summary-score-uncorrected (of intervals without N/(N-1)), newcombe (Yan & Su), mantel-haenszel (Sato's standard
        error), greenland-robins (theirs), inverse-variance. Of a risk ratio: miettinen-nurminen, mantel-haenszel
        (Greenland-Robins). Of an odds ratio: miettinen-nurminen (efficient score), mantel-haenszel
        (Robins-Breslow-Greenland), inverse-variance (Woolf), conditional-exact and mid-p (convolution of the strata)
    term : labels that give one row per term

    Returns
    -------
    Estimates with strata (those with both groups), the totals x1 n1 x2 n2 over them, estimate, statistic, p_value,
    conf_low, conf_high. A stratum with an empty group carries no information and is warned of; without any other the
    result is NaN.

    Agrees with
    -----------
    R 4.2.2 written out, ratesci 1.0.0 and metafor 5.0-1, 1e-8.

    References
    ----------
    Sato (1989), Biometrics 45:1323. Greenland & Robins (1985), Biometrics 41:55. Yan & Su (2010), Statistics in
    Biopharmaceutical Research 2:327. Miettinen & Nurminen (1985), doi:10.1002/sim.4780040211.

    Examples
    --------
    >>> est = stratified(([2, 1], [15, 9], [1, 0], [14, 11]), ["a", "b"], "mantel-haenszel")
    >>> est["estimate"].round(4).tolist()
    [0.0819]
    """
    compute = METHODS[measure][choose(method, METHODS[measure], "method")]
    tail = rows.check_side(side, level)
    table, keys, labels, kind = _cube(given, strata, term, data)
    used = (table[1] > 0) & (table[3] > 0)
    columns = _within_space(compute(table, tail, side), measure, side)
    totals = {name: np.where(used, part, 0.0).sum(1) for name, part in zip(pairs.NAMES, table, strict=True)}
    counted: Columns = {"strata": used.sum(1).astype(float), **totals}
    result = rows.result(
        counted | columns, ("strata", *pairs.NAMES), title=f"Stratified {measure.replace('-', ' ')}", method=method,
        level=level, side=side, kind=kind, scale=pairs.MEASURES[measure].scale, measure=measure, strata=labels,
        warnings=_uninformative(used), error_scale="log" if measure.endswith("ratio") else "identity",
    )  # fmt: skip
    return result if term is None else _keyed(result, keys)


def _within_space(columns: Columns, measure: str, side: str) -> Columns:
    low, high = rows.one_sided(columns["conf_low"], columns["conf_high"], side, pairs.MEASURES[measure].space)
    return columns | {"conf_low": low, "conf_high": high}


def _uninformative(used: Any) -> list[str]:
    lost = int((~used).sum())
    if not lost:
        return []
    text = f"{lost} strata have an empty group and carry no information."
    return [warn(text)]


def _keyed(result: Estimates, keys: list[Any]) -> Estimates:
    frame = result.frame.copy()
    frame.insert(0, "term", keys)
    return Estimates(frame, result.meta)


def _cube(given: Any, strata: Any, term: Any, data: Any) -> tuple[Table, list[Any], list[Any], str]:
    """(terms, strata) arrays of the four counts; rows of the same term and stratum are added."""
    table, kind = rows.arrays(data, **dict(zip(pairs.NAMES, given, strict=True)))
    known = rows.check_counts(**dict(zip(pairs.NAMES, table, strict=True)))
    if not known.all():
        raise DataError(f"{int((~known).sum())} strata have missing counts: remove them, or give their counts.")
    rows.check_within(table[0], table[1], ("x1", "n1"))
    rows.check_within(table[2], table[3], ("x2", "n2"))
    stratum, labels = _labels(strata, data, len(table[0]), "strata")
    row, keys = _labels(term, data, len(table[0]), "term") if term is not None else (np.zeros(len(table[0]), int), [""])
    cell = row * len(labels) + stratum
    shape = (len(keys), len(labels))
    cube = [np.bincount(cell, part, shape[0] * shape[1]).astype(float).reshape(shape) for part in table]
    return (cube[0], cube[1], cube[2], cube[3]), keys, labels, kind


def _labels(values: Any, data: Any, size: int, name: str) -> tuple[Any, list[Any]]:
    if isinstance(values, str):
        from kapstats import frames

        if data is None:
            raise FormulaError(f"{name}={values!r} names a column, but there is no table: add data=.")
        frame = frames.to_pandas(data)
        frames.require(frame, [values])
        values = frame[values]
    series = pd.Series(np.asarray(values, dtype="object").ravel())
    if len(series) != size:
        raise DataError(f"{name}: {len(series)} labels for {size} rows. Give one label per row.")
    codes, unique = pd.factorize(series)
    if (codes < 0).any():
        raise DataError(f"{name}: {int((codes < 0).sum())} labels are missing. Give every row a label.")
    return codes, list(unique)


def cmh_test(
    x1: Any, n1: Any, x2: Any, n2: Any, strata: Any, *, corrected: bool = False, data: Any = None, term: Any = None
) -> Estimates:
    """Test association within strata by Cochran-Mantel-Haenszel; columns statistic (chi-square, 1 df) and p_value.

    Agrees with
    -----------
    R 4.2.2 mantelhaen.test, 1e-8.
    """
    table, keys, _, kind = _cube((x1, n1, x2, n2), strata, term, data)
    statistic, p = kernel.cmh(*table, corrected)
    return _tests({"statistic": statistic, "df": np.ones_like(p), "p_value": p}, keys, "Cochran-Mantel-Haenszel", kind)


def homogeneity(x1: Any, n1: Any, x2: Any, n2: Any, strata: Any, *, data: Any = None, term: Any = None) -> Estimates:
    """Test whether the effect is the same in all strata.

    Returns
    -------
    Estimates with one row per method: breslow-day, tarone (its correction) and woolf for the odds ratio, score for the
    risk difference (squared score residuals at the Mantel-Haenszel difference). Strata with an empty margin say nothing
    about the odds ratio and are left out of df; woolf needs every cell filled and is NaN otherwise.

    Agrees with
    -----------
    R 4.2.2 (DescTools 0.99.59 BreslowDayTest), 1e-8.

    References
    ----------
    Breslow & Day (1980); Tarone (1985), Biometrika 72:91. Lipsitz et al. (1998), Biometrics 54:148 (risk difference).
    """
    table, keys, _, kind = _cube((x1, n1, x2, n2), strata, term, data)
    with np.errstate(divide="ignore", invalid="ignore"):
        woolf = kernel.cochran_q(np.log(two.odds_ratio(*table)), two.woolf_error(*table) ** 2)
    found = {
        "breslow-day": kernel.breslow_day(*table, tarone=False),
        "tarone": kernel.breslow_day(*table, tarone=True),
        "woolf": woolf,
        "score": kernel.score_homogeneity(*table),
    }
    columns = {
        name: np.concatenate([found[m][i] for m in found]) for i, name in enumerate(("statistic", "df", "p_value"))
    }
    result = _tests(columns, keys * len(found), "homogeneity", kind)
    frame = result.frame.copy()
    frame.insert(0, "method", np.repeat(list(found), len(keys)))
    frame.insert(1, "effect", np.repeat(["odds ratio"] * 3 + ["risk difference"], len(keys)))
    return Estimates(frame, result.meta)


def _tests(columns: Columns, keys: list[Any], method: str, kind: str) -> Estimates:
    result = rows.result(columns, (), title=method, method=method, level=0.95, side="two", kind=kind)
    return result if keys == [""] * len(keys) else _keyed(result, keys)


def term_columns(
    ae: Incidence, arm: int, reference: int, strata: str, method: str, measure: str, tail: float, side: str
) -> Columns:
    """The stratified comparison of two groups for every row of an incidence table."""
    compute = METHODS[measure][choose(method, METHODS[measure], "method")]
    return _within_space(compute(term_cube(ae, arm, reference, strata), tail, side), measure, side)


def term_cube(ae: Incidence, arm: int, reference: int, strata: str) -> Table:
    """(rows, strata) counts of two groups; the strata are the levels of an ADSL column."""
    subjects, labels = by_stratum(ae, strata)
    size = _stratum_sizes(ae, labels)
    used = np.ones((subjects.shape[0], 1))
    x1, x2 = subjects[:, :, arm].astype(float), subjects[:, :, reference].astype(float)
    return x1, used * size[:, arm], x2, used * size[:, reference]


def by_stratum(ae: Incidence, strata: str) -> tuple[Any, Any]:
    """(rows, strata, groups) subjects with an event, and the stratum of every subject."""
    from kapstats import frames
    from kapstats.kernels.distinct_counts import distinct_counts
    from kapstats.safety.incidence import membership

    records = ae.records
    frames.require(records.subjects, [strata], "ADSL")
    labels, unique = pd.factorize(records.subjects[strata].astype("object"), use_na_sentinel=False)
    n_rows, n_arms, n_strata = len(ae.frame) // len(ae.arms), len(ae.arms), len(unique)
    joint = labels.astype(np.int64) * n_arms + records.arm
    total = np.zeros((n_rows, n_strata * n_arms), dtype=np.int64)
    for members, target in membership(ae):
        total += distinct_counts(target, records.subject[members], joint, n_rows, n_strata * n_arms)[0]
    return total.reshape(n_rows, n_strata, n_arms), labels


def _stratum_sizes(ae: Incidence, labels: Any) -> FloatArray:
    n_arms = len(ae.arms)
    cells = np.bincount(labels * n_arms + ae.records.arm, minlength=(int(labels.max()) + 1) * n_arms)
    return cells.reshape(-1, n_arms).astype(float)
