"""The symptom score: baseline truncated at entry, visits jointly normal given baseline, integer and within the scale.

    score[d] = round( clip( m + c[d] + effect[d] + b[d] (base - m) + site + therapist + e[d] ) )
    effect[d] = (direct[arm] + slope log(1 + Cmax / 50)) onset[d]

with e ~ N(0, C), b and C such that the scores have the standard deviations and the correlations of the scenario before
clipping. The same deviates are used whatever the arm: a subject's scores under two arms are potential outcomes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.special import expit, logit, ndtr, ndtri

from kapstats._types import BoolArray, FloatArray, IntArray
from kapstats.errors import DataError, nearest
from kapstats.simulation.scenario import Arm, Response
from kapstats.simulation.subjects import OLDER, Subjects

_DESCRIBES = ("label", "low", "high", "entry", "baseline_mean", "baseline_sd", "response_fraction")
#: scales by parameter code: label, range, usual entry score, baseline of a trial population, fall that is a response
SCALES: dict[str, dict[str, object]] = {
    code: dict(zip(_DESCRIBES, row, strict=True))
    for code, row in {
        "MADRS": ("MADRS Total Score", 0, 60, 28, 36.8, 6.2, 0.5),
        "HAMD17": ("HAM-D (17 Items) Total Score", 0, 52, 18, 23.0, 4.0, 0.5),
        "CAPS5": ("CAPS-5 Total Severity Score", 0, 80, 30, 42.0, 9.0, 0.3),
        "PCL5": ("PCL-5 Total Score", 0, 80, 33, 50.0, 11.0, 0.3),
        "YBOCS": ("Y-BOCS Total Score", 0, 40, 16, 28.0, 5.0, 0.35),
        "HAMA": ("HAM-A Total Score", 0, 56, 18, 26.0, 6.0, 0.5),
        "LSAS": ("LSAS Total Score", 0, 144, 60, 88.0, 18.0, 0.35),
        "BSS": ("Beck Scale for Suicide Ideation Total Score", 0, 38, 2, 14.0, 7.5, 0.5),
        "PHQ9": ("PHQ-9 Total Score", 0, 27, 10, 16.0, 5.0, 0.5),
        "PAINNRS": ("Pain Intensity Numeric Rating", 0, 10, 4, 6.5, 1.7, 0.3),
        "DRINKDAY": ("Drinking Days in the Last 28 Days", 0, 28, 10, 20.0, 6.0, 0.5),
    }.items()
}


def scale(code: str) -> dict[str, object]:
    """Fields of a `Response` that describe a scale, for ``Scenario.change(response=scale("CAPS5") | {...})``.

    Examples
    --------
    >>> scale("PHQ9")["high"]
    27
    """
    if code not in SCALES:
        raise DataError(f"There is no scale {code!r}.{nearest(code, SCALES)} Known: {', '.join(SCALES)}.")
    return {"parameter": code, **SCALES[code]}


@dataclass(frozen=True, slots=True)
class Model:
    """Constants of a response model, v visits.

    `values` (k,) and `probability` (k,): distribution of the baseline score; `mean`, `sd` its moments;
    `slope` (v,), `root` (v, v) lower Cholesky factor of the residual covariance.
    """

    values: FloatArray
    probability: FloatArray
    mean: float
    sd: float
    slope: FloatArray
    root: FloatArray


def correlation_matrix(lower: tuple[tuple[float, ...], ...], size: int) -> FloatArray:
    """Correlations from the rows of the lower triangle; without rows, 0.75 per visit and 0.4 fading for baseline."""
    matrix = np.eye(size)
    for i in range(1, size):
        row = lower[i - 1] if lower else [0.4 * 0.85 ** (i - 1), *(0.78 ** ((i - j) ** 0.7) for j in range(1, i))]
        if len(row) != i:
            raise DataError(f"Response.correlation: row {i} has {len(row)} entries, expected {i} (baseline first).")
        matrix[i, :i] = matrix[:i, i] = row
    return matrix


@cache
def model(spec: Response) -> Model:
    """The constants of `spec`; computed once."""
    values = np.arange(spec.entry, spec.high + 1, dtype=float)
    edges = (np.append(values - 0.5, spec.high + 0.5) - spec.baseline_mean) / spec.baseline_sd
    weights = np.diff(ndtr(edges))
    probability = weights / weights.sum()
    mean = float(probability @ values)
    sd = float(np.sqrt(probability @ (values - mean) ** 2))
    correlation = correlation_matrix(spec.correlation, len(spec.days) + 1)
    scale = np.asarray(spec.sd)
    with_base = correlation[1:, 0]
    shared = spec.site_sd**2 + spec.therapist_sd**2
    residual = (correlation[1:, 1:] - np.outer(with_base, with_base)) * np.outer(scale, scale) - shared
    try:
        root = np.linalg.cholesky(residual).astype(np.float64)
    except np.linalg.LinAlgError as error:
        raise DataError("Response: sd and correlation do not make a positive-definite covariance.") from error
    return Model(values, probability, mean, sd, with_base * scale / sd, root)


def effects(spec: Response, arms: tuple[Arm, ...]) -> FloatArray:
    """Points of change that each arm adds at each visit (arms, visits)."""
    return np.array([a.profile or tuple(a.effect * x for x in spec.onset) for a in arms])


def means(spec: Response, arms: tuple[Arm, ...]) -> FloatArray:
    """Mean change from baseline before clipping (arms, visits)."""
    return np.asarray(spec.reference_change) + effects(spec, arms)


def baseline(spec: Response, u: FloatArray) -> FloatArray:
    """Baseline scores from uniforms (n,), by inversion of the truncated normal distribution."""
    low = ndtr((spec.entry - 0.5 - spec.baseline_mean) / spec.baseline_sd)
    high = ndtr((spec.high + 0.5 - spec.baseline_mean) / spec.baseline_sd)
    score = spec.baseline_mean + spec.baseline_sd * ndtri(low + u * (high - low))
    return np.clip(np.rint(score), spec.entry, spec.high)


@dataclass(frozen=True, slots=True)
class Scores:
    """Baseline (n,) and, per visit (n, v), the latent score without any effect, the subject's own effect of treatment,
    and the score on the scale."""

    base: FloatArray
    latent: FloatArray
    effect: FloatArray
    score: FloatArray


def to_scale(spec: Response, latent: FloatArray) -> FloatArray:
    """Latent values as scores: rounded, within the scale."""
    return np.rint(np.clip(latent, spec.low, spec.high))


def felt(cmax: FloatArray | None, n: int) -> FloatArray:
    """log(1 + Cmax / 50) of n subjects; zeros where there is no exposure."""
    return np.zeros(n) if cmax is None else np.log1p(cmax / 50.0)


def belief_probability(spec: Response, arms: tuple[Arm, ...], arm: IntArray, dose: FloatArray) -> FloatArray:
    """Probability (n,) of believing to have been given the drug; `dose` (n,) is `felt`."""
    stated = np.array([a.believes or 0.0 for a in arms])[arm]
    return expit(logit(stated) + spec.unblinding * dose) if spec.unblinding else stated


def belief(spec: Response, arms: tuple[Arm, ...], arm: IntArray, dose: FloatArray, u: FloatArray) -> BoolArray | None:
    """Who believes to have been given the drug (n,), from uniforms; None when the scenario says nothing of it."""
    if all(a.believes is None for a in arms):
        return None
    return u < belief_probability(spec, arms, arm, dose)


def own_effects(spec: Response, arms: tuple[Arm, ...], arm: IntArray, dose: FloatArray) -> FloatArray:
    """Points of change (n, v) that treatment adds to each subject; `dose` (n,) is `felt`."""
    shared: FloatArray = effects(spec, arms)[arm]
    return shared + spec.exposure * dose[:, None] * np.asarray(spec.onset) if spec.exposure else shared


def generate(
    spec: Response,
    arms: tuple[Arm, ...],
    who: Subjects,
    rng: np.random.Generator,
    dose: FloatArray,
    believers: BoolArray | None = None,
) -> Scores:
    """Scores of n subjects if all stay on treatment; `dose` (n,) is `felt`."""
    m, n, site, therapist = model(spec), who.arm.size, who.site, who.therapist
    base = baseline(spec, rng.random(n))
    noise = rng.standard_normal((n, len(spec.days))) @ m.root.T
    centre = spec.site_sd * rng.standard_normal(int(site.max(initial=0)) + 1)[site]
    centre = centre + spec.therapist_sd * rng.standard_normal(int(therapist.max(initial=0)) + 1)[therapist]
    latent = base[:, None] + (m.slope - 1) * (base - m.mean)[:, None] + noise + centre[:, None]
    latent = latent + np.asarray(spec.reference_change)
    if believers is not None:
        latent = latent + spec.expectancy * believers[:, None]
    if spec.female or spec.older:
        latent = latent + (spec.female * who.female + spec.older * (who.age >= OLDER))[:, None]
    effect = own_effects(spec, arms, who.arm, dose)
    return Scores(base, latent, effect, to_scale(spec, latent + effect))
