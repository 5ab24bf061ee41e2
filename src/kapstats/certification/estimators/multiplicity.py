"""Many questions of one trial: contrasts of several arms, terms of adverse events, shapes of a dose response, visits,
subgroups. A row is a test of true nulls, whose rejection is the family-wise error (or the share of false flags)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import stdtr

from kapstats._types import BoolArray, FloatArray, IntArray
from kapstats.certification.estimators.common import (
    NUMBERS,
    Analysis,
    Answer,
    Certificate,
    Estimator,
    by_level,
    by_pick,
    decided,
    fits,
    generator,
    in_world,
    numbers,
    tested,
)
from kapstats.estimates import Estimates, meta
from kapstats.evidence.subgroups import subgroups
from kapstats.inference.multiplicity import adjust_p
from kapstats.kernels.max_t import step_down_max_t
from kapstats.response.dose import mcp_mod
from kapstats.response.onset import separation
from kapstats.safety.incidence import Incidence, incidence
from kapstats.safety.signals import safety_signals
from kapstats.simulation import safety_worlds as worlds
from kapstats.simulation.draw import Draw
from kapstats.simulation.scenario import Scenario

Drawn = np.random.Generator

# ------------------------------------------------------------------------------------------- several arms

ARMS = 4


def arms_alike(rng: Drawn, n: int) -> FloatArray:
    """(arms, subjects) of equal arms without any effect."""
    return rng.standard_normal((ARMS, n // ARMS))


def _means(rng: Drawn, n: int) -> tuple[FloatArray, float, float]:
    """Means of equal arms without any effect, the error of a mean and its degrees of freedom."""
    y = arms_alike(rng, n)
    return y.mean(axis=1), float(np.sqrt(y.var(axis=1, ddof=1).mean() / y.shape[1])), float(ARMS * (y.shape[1] - 1))


def _contrasts(rng: Drawn, n: int, level: float, method: str) -> list[float]:
    """Smallest adjusted p value of every arm against the first, or of all pairs (tukey)."""
    mean, error, df = _means(rng, n)
    pairs = [(a, b) for a in range(ARMS) for b in range(a)]
    L = np.array([np.eye(ARMS)[a] - np.eye(ARMS)[b] for a, b in pairs if method == "tukey" or b == 0])
    statistic, correlation = L @ mean / (error * np.sqrt(2)), L @ L.T / 2
    p = 2 * stdtr(df, -np.abs(statistic))
    found = adjust_p(method, p, statistic=statistic, correlation=correlation, df=np.full(len(p), df), means=ARMS)
    return [float(found.min())]


def _smallest(method: str) -> Analysis:
    def analyse(scenario: Scenario, draws: Sequence[Draw], level: float) -> Answer:
        return decided(np.array([_contrasts(generator(d, "arms"), d.n, level, method) for d in draws]))

    return analyse


# ------------------------------------------------------------------------------------------- terms of events

TERMS, TOGETHER, PERMUTATIONS = 30, 0.8, 399


def terms_together(rng: Drawn, n: int) -> tuple[FloatArray, BoolArray]:
    """(n, terms) who had which event, and who was treated: terms go together and do not differ; those seen."""
    lean = TOGETHER * rng.standard_normal((n, 1))
    event = (rng.standard_normal((n, TERMS)) + lean > rng.uniform(1.0, 2.0, TERMS)).astype(float)
    return event[:, event.any(axis=0)], np.arange(n) % 2 == 0


def _max_t(adjusted: bool) -> Analysis:
    """Smallest p value over terms that go together and do not differ; a control leaves it unadjusted."""

    def one(d: Draw) -> list[float]:
        event, treated = terms_together(generator(d, "terms together"), d.n)
        chance = np.random.default_rng(d.replicate + 1)
        _, raw, whole = step_down_max_t(event, treated, np.zeros(d.n, np.int64), chance, PERMUTATIONS)
        return [float((whole if adjusted else raw).min())]

    return lambda scenario, draws, level: decided(np.array([one(d) for d in draws]))


def counted(event: BoolArray | FloatArray, treated: BoolArray, system: IntArray) -> Incidence:
    """`ks.incidence` of subjects by terms, (n, terms), from one record per event."""
    name = np.array([f"S{i:05d}" for i in range(event.shape[0])])
    who, term = np.nonzero(event)
    soc = np.array([f"System {k:02d}" for k in system])
    adae = {"USUBJID": name[who], "AEBODSYS": soc[term], "AEDECOD": labels(event.shape[1])[term], "TRTEMFL": "Y"}
    adsl = {"USUBJID": name, "TRT01A": np.where(treated, "Drug", "Placebo"), "TRT01AN": np.where(treated, 1, 0)}
    return incidence(pd.DataFrame(adae), pd.DataFrame(adsl))


def labels(terms: int) -> NDArray[np.str_]:
    """Names of terms, in their order."""
    return np.array([f"Term {k:03d}" for k in range(terms)])


def flagged(method: str, **options: Any) -> Analysis:
    """By the exported verb: is a flagged term, picked at random, a false one? A seed of its own for every replicate."""

    def one(scenario: Scenario, d: Draw, level: float) -> FloatArray:
        (x1, n1, x2, n2), system, differs = worlds.terms(generator(d, "terms"), d.n)
        place = np.concatenate([np.arange(n1[0]), np.arange(n2[0])])[:, None]
        treated = np.arange(place.size) < n1[0]
        ae = counted(place < np.where(treated[:, None], x1, x2), treated, system)
        found = safety_signals(ae, method, rate=1 - level, level=level, seed=d.replicate + 1, **options).frame
        signal = found.set_index("AEDECOD")["signal"].reindex(labels(differs.size)).eq(True)
        return _test(by_pick(signal.to_numpy(), differs, d))

    return fits(one, tested)


# ------------------------------------------------------------------------------------------- shapes, visits, subgroups

DOSES = np.array([0.0, 0.25, 0.5, 0.75, 1.0])
SHAPES = {"linear": ("linear", {}), "emax": ("emax", {"ed50": 0.1}), "exponential": ("exponential", {"delta": 0.2})}


def _doses(rng: Drawn, n: int, level: float, adjusted: bool) -> FloatArray:
    """Smallest p value over candidate shapes where the dose does nothing; a control leaves it unadjusted."""
    y = rng.standard_normal((DOSES.size, n // DOSES.size))
    mean, df = y.mean(axis=1), DOSES.size * (y.shape[1] - 1.0)
    error = float(np.sqrt(y.var(axis=1, ddof=1).mean() / y.shape[1]))
    if adjusted:
        rows = pd.DataFrame({"estimate": mean, "std_error": error})
        return _test(float(mcp_mod(rows, DOSES.tolist(), SHAPES, df=df).frame["p_value"].min()))
    shapes = np.stack([DOSES, DOSES / (0.1 + DOSES), np.expm1(DOSES / 0.2)])
    weights = shapes - shapes.mean(axis=1, keepdims=True)
    t = weights @ mean / (error * np.linalg.norm(weights, axis=1))
    return _test(float(2 * stdtr(df, -np.abs(t).max())))


def _test(p: float) -> FloatArray:
    return np.array([[np.nan, np.nan, np.nan, np.nan, p]])


VISITS, LATE, ALIKE = (1, 7, 14, 21, 28), np.array([0.0, 0.0, 2.5, 3.0, 3.5]), 0.6


def _separated(rng: Drawn, n: int, level: float, sequence: bool) -> FloatArray:
    """Is an arm called separated where it is not: without any effect, and before the effect begins at the third visit.
    A control takes the first visit with a small p value."""
    root = np.linalg.cholesky(ALIKE + (1 - ALIKE) * np.eye(len(VISITS)))
    out = []
    for effect in (0 * LATE, LATE):
        z = effect + root @ rng.standard_normal(len(VISITS))
        p = 2 * stdtr(1e9, -np.abs(z))
        if sequence:
            rows = pd.DataFrame({"contrast": "K - P", "AVISIT": VISITS, "estimate": z, "p_value": p})
            found = separation(Estimates(rows, meta(method="z", level=level)), "AVISIT", alpha=1 - level)
            visit = found.frame["AVISIT"].iloc[0]
            at = len(VISITS) if visit is None or pd.isna(visit) else VISITS.index(int(visit))
        else:
            at = int(np.argmax(np.append(p < 1 - level, True)))
        first = len(VISITS) if not effect.any() else 2
        out.append(_test(0.0 if at < first else 1.0))
    return np.vstack(out)


COMMON, SD = -3.0, 8.0


def _subgroups(rng: Drawn, n: int, level: float, interaction: bool) -> FloatArray:
    """Differences within two subgroups that share one effect, and the test that they differ. A control says that they
    do when one interval excludes no effect and the other does not."""
    arm, sex = np.arange(n) % 2, np.arange(n) // 2 % 3 == 0
    y = COMMON * arm + 2.0 * sex + SD * rng.standard_normal(n)
    frame = pd.DataFrame({"arm": np.where(arm, "K", "P"), "sex": np.where(sex, "F", "M"), "y": y})
    if interaction:
        found = subgroups(frame, "y", by="arm", factors=["sex"], reference="P", level=level).frame
        each = found[found["factor"] == "sex"]
        return np.vstack([numbers(each), _test(float(each["interaction_p_value"].iloc[0]))])
    sides = []
    for group in (True, False):
        parts = [y[(sex == group) & (arm == a)] for a in (1, 0)]
        gap, error = parts[0].mean() - parts[1].mean(), np.sqrt(sum(v.var(ddof=1) / v.size for v in parts))
        sides.append(2 * stdtr(sum(v.size for v in parts) - 2.0, -abs(gap / error)) < 1 - level)
    nothing = np.full((2, len(NUMBERS)), np.nan)
    return np.vstack([nothing, _test(0.0 if sides[0] != sides[1] else 1.0)])


# ------------------------------------------------------------------------------------------- what there is

_ARMS = by_level("family-wise error", {"arms alike": 1.0})
_TERMS = by_level("family-wise error", {"terms alike": 1.0})
_FALSE = by_level("false_discovery", {"a flagged term": 1.0})
_FLAT = by_level("family-wise error", {"no dose response": 1.0})
_EARLY = by_level("separated where not", {"no effect": 1.0, "before the third visit": 1.0})


def _shared(scenario: Scenario) -> list[dict[str, object]]:
    """The common effect in both subgroups, and the true null that they do not differ."""
    means = by_level("mean_difference", {"women": COMMON, "men": COMMON})(scenario)
    return means + by_level("interaction", {"test": 1.0})(scenario)


ESTIMATORS: tuple[Estimator, ...] = (
    *(Estimator(f"multiplicity-{m}", (), _ARMS, _smallest(m)) for m in ("holm", "hochberg", "mvt", "tukey", "none")),
    Estimator("safety_signals-max-t", (), _TERMS, _max_t(adjusted=True)),
    Estimator("safety_signals-max-t-raw", (), _TERMS, _max_t(adjusted=False)),
    Estimator("safety_signals-berry-berry", (), _FALSE, flagged("berry-berry", draws=800, burn_in=400, chains=1)),
    Estimator("mcp_mod", (), _FLAT, in_world("doses", partial(_doses, adjusted=True))),
    Estimator("mcp_mod-best-shape", (), _FLAT, in_world("doses", partial(_doses, adjusted=False))),
    Estimator("separation", (), _EARLY, in_world("visits", partial(_separated, sequence=True))),
    Estimator("separation-first-visit", (), _EARLY, in_world("visits", partial(_separated, sequence=False))),
    Estimator("subgroups", (), _shared, in_world("subgroups", partial(_subgroups, interaction=True))),
    Estimator("subgroups-one-significant", (), _shared, in_world("subgroups", partial(_subgroups, interaction=False))),
)


def _published(estimator: str, n: int, control: bool = False, note: str = "", replicates: int = 10_000) -> Certificate:
    return Certificate(estimator, "closed-forms", n, replicates, control, note)


CERTIFICATES: tuple[Certificate, ...] = (
    _published("multiplicity-holm", 80, note="three arms against one, family-wise error"),
    _published("multiplicity-hochberg", 80, note="three arms against one, family-wise error"),
    _published("multiplicity-mvt", 80, note="three arms against one (Dunnett), family-wise error"),
    _published("multiplicity-tukey", 80, note="all pairs of four arms, family-wise error"),
    _published("multiplicity-none", 80, control=True, note="three arms against one, unadjusted"),
    _published("safety_signals-max-t", 100, note="family-wise error over 30 terms", replicates=2_000),
    _published("safety_signals-max-t-raw", 100, control=True, note="unadjusted permutation p values", replicates=2_000),
    _published("safety_signals-berry-berry", 200, note="rejection is the share of false flags", replicates=2_000),
    _published("mcp_mod", 100, note="family-wise error over three shapes"),
    _published("mcp_mod-best-shape", 100, control=True, note="best of three shapes, unadjusted"),
    _published("separation", 100, note="fixed sequence from the last visit back"),
    _published("separation-first-visit", 100, control=True, note="first visit below 5%"),
    _published("subgroups", 120, note="effects and their interaction"),
    _published("subgroups-one-significant", 120, control=True, note="one interval excludes no effect, one does not"),
)
