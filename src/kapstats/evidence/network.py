"""Network meta-analysis: treatments that were never compared directly, through what each was compared with."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import special

from kapstats import estimates, frames
from kapstats._types import FloatArray, FrameLike, IntArray
from kapstats.errors import DataError, check_level, choose, first_ids, nearest, warn
from kapstats.evidence.columns import require
from kapstats.evidence.studies import RATIOS, column, count_faults
from kapstats.inference.intervals import with_inference
from kapstats.kernels import network as kernel

MODELS = ("common", "dl", "reml")
CONFOUNDED = (
    "Indirect comparisons are not randomised: routes studied in different trials also differ in drug, dose, duration "
    "and in how events were asked for."
)


@dataclass(frozen=True, slots=True)
class _Arms:
    """Per study, in the order of the treatments: effect and variance of each arm, its treatment; names; notes."""

    effects: list[FloatArray]
    variances: list[FloatArray]
    arms: list[IntArray]
    names: list[str]
    notes: list[str]


def network_meta_analysis(
    studies: FrameLike,
    measure: str = "OR",
    model: str = "reml",
    *,
    reference: str | None = None,
    level: float = 0.95,
    add: float = 0.5,
    small_is: str = "good",
) -> estimates.Estimates:
    """Effects of all treatments of a connected network of trials, each against the reference.

    With the contrasts :math:`y` of every arm against the first of its study and their covariance :math:`V`,
    :math:`y \\sim N(X\\beta, V + \\tau^2\\Omega)`, where arms of one study share its first arm and every pair of them
    varies between studies by :math:`\\tau^2`.

    Parameters
    ----------
    studies : one row per arm: `study`, `treatment`, and x n (events of subjects) or mean sd n
    measure : "OR", "RR", "RD", or "MD" for means
    model : "common" (tau^2 = 0), "dl" (moments), "reml"
    reference : the treatment compared with; the first by default
    add : added to events and non-events of every arm of a study that has an arm without events or with events only.
        Studies without any event, or with events only, are left out for OR and RR
    small_is : "good" or "bad", for the ranking

    Returns
    -------
    Estimates
        One row per other treatment: ``contrast`` ("IV / PLACEBO" for ratios, on the log scale), estimate, std_error,
        statistic, p_value, conf_low, conf_high, and ``p_score`` of the treatment (0 worst, 1 best; Rücker & Schwarzer
        2015). ``.meta``: tau2, q, q_df, q_p_value; q_within, q_within_df (studies of one design), q_between,
        q_between_df, q_between_p_value (inconsistency between designs); reference_p_score; league (all pairs).

    Raises
    ------
    DataError
        For missing columns, a treatment twice in a study, or a network in several parts.

    Agrees with
    -----------
    R netmeta 3.3-1 (inverse variance, multi-arm trials) to 1e-8, where tau^2 is 0 as in the recorded cases.

    References
    ----------
    Lu & Ades 2004; White, Barrett, Jackson & Higgins 2012; Rücker 2012; Krahn, Binder & König 2013.

    Examples
    --------
    >>> arms = {"study": ["A", "A", "B", "B"], "treatment": ["IV", "placebo", "IM", "placebo"]}
    >>> table = network_meta_analysis({**arms, "x": [9, 3, 8, 4], "n": [30] * 4}, reference="placebo", model="common")
    >>> table["contrast"].tolist(), table["estimate"].round(2).tolist()
    (['IM / placebo', 'IV / placebo'], [0.86, 1.35])
    """
    choose(measure, ("OR", "RR", "RD", "MD"), "measure")
    choose(model, MODELS, "model")
    choose(small_is, ("good", "bad"), "small_is")
    check_level(level)
    frame = frames.to_pandas(studies)
    require(frame, ["study", "treatment", *(("mean", "sd", "n") if measure == "MD" else ("x", "n"))])
    names = [str(v) for v in frames.levels(frame, "treatment").values]
    base = names[0] if reference is None else str(reference)
    if base not in names:
        raise DataError(f"network_meta_analysis: no treatment {base!r}.{nearest(base, names)}")
    names = [base, *(n for n in names if n != base)]
    numbers = ("mean", "sd", "n") if measure == "MD" else ("x", "n")
    given = _arms(frame.assign(**{c: column(frame, c) for c in numbers}), names, measure, add)
    stacked = kernel.stack(given.effects, given.variances, given.arms)
    _connected(stacked, names)
    X = stacked.design(len(names))
    fit = kernel.fit(stacked, X, model)
    notes = (
        [*given.notes] if fit.df else [*given.notes, "No study is left over: tau^2 and inconsistency cannot be seen."]
    )
    for note in notes:
        warn(note)
    sign = " / " if measure in RATIOS else " - "
    scores = _p_scores(fit, small_is)
    table = with_inference(
        pd.DataFrame({"contrast": [f"{n}{sign}{base}" for n in names[1:]]}),
        fit.beta, np.sqrt(np.diag(fit.covariance)), np.inf, level=level,
    ).assign(p_score=scores[1:])  # fmt: skip
    designs = pd.factorize(pd.Series([tuple(a) for a in given.arms]))[0]
    q_within, df_within = kernel.within_designs(stacked, designs.astype(np.int64))
    between, df_between = max(0.0, fit.q - q_within), fit.df - df_within
    about = estimates.meta(
        method=f"network meta-analysis, {model}",
        level=level,
        scale="log" if measure in RATIOS else "identity",
        ratio_names={},  # the contrasts are written as ratios
        title=f"Network meta-analysis of {measure}",
        sentence=f"{measure}, {model}; {len(given.names)} studies, {len(names)} treatments; tau^2 {fit.tau2:.4g}.",
        conventions=(
            CONFOUNDED,
            f"{add:g} added in every arm of studies with an arm without events or with events only.",
        ),
        warnings=notes,
        data=frame,
        frame_kind=frames.kind(studies),
        tau2=fit.tau2,
        q=fit.q,
        q_df=fit.df,
        q_p_value=_p(fit.q, fit.df),
        q_within=q_within,
        q_within_df=df_within,
        q_between=between,
        q_between_df=df_between,
        q_between_p_value=_p(between, df_between),
        k=len(given.names),
        reference=base,
        reference_p_score=float(scores[0]),
        league=_league(fit, names, sign, level),
        figure="forest",
        measure=measure,
        forest={"label": "contrast", "digits": 2},
    )
    return estimates.Estimates(table, about, fit.covariance)


def _p(q: float, df: int) -> float:
    return float(special.chdtrc(df, q)) if df > 0 else np.nan


def _arms(frame: pd.DataFrame, names: list[str], measure: str, add: float) -> _Arms:
    """Effects of the arms of every study that has two or more and says something."""
    found = _Arms([], [], [], [], [])
    silent, single, broken = [], [], []
    for study, rows in frame.groupby("study", sort=False, observed=True):
        codes = np.array([names.index(str(t)) for t in rows["treatment"]], dtype=np.int64)
        if len(set(codes)) < len(codes):
            raise DataError(f"network_meta_analysis: study {study} has a treatment twice; add its arms up first.")
        if len(codes) < 2:
            single.append(study)
            continue
        fault = _fault(rows, measure)
        if fault:
            broken.append(f"{study} ({fault})")
            continue
        order = np.argsort(codes)
        effect = _effects(rows.iloc[order], measure, add)
        if effect is None:
            silent.append(study)
            continue
        found.effects.append(effect[0])
        found.variances.append(effect[1])
        found.arms.append(codes[order])
        found.names.append(str(study))
    if single:
        found.notes.append(f"{len(single)} studies of one arm left out: {first_ids(single)}.")
    if broken:
        found.notes.append(f"{len(broken)} studies left out: {first_ids(broken)}.")
    if silent:
        found.notes.append(f"{len(silent)} studies left out (no event, or nothing but events): {first_ids(silent)}.")
    if not found.names:
        raise DataError("network_meta_analysis: no study has two arms that hold information.")
    return found


def _fault(rows: pd.DataFrame, measure: str) -> str:
    """Why a study cannot be used, "" where it can."""
    if measure == "MD":
        mean, sd, n = (rows[c].to_numpy(dtype=float) for c in ("mean", "sd", "n"))
        whole = np.isfinite(mean).all() and (sd > 0).all() and (n > 0).all()
        return "" if whole else "no mean, positive sd or n"
    x, n = (rows[c].to_numpy(dtype=float) for c in ("x", "n"))
    why = next((why for why, wrong in count_faults(x, n).items() if wrong.any()), "")
    if "above" in why:
        raise DataError(f"network_meta_analysis: study {rows['study'].iloc[0]} has impossible counts: {why}.")
    return why


def _effects(rows: pd.DataFrame, measure: str, add: float) -> tuple[FloatArray, FloatArray] | None:
    """Effect and variance per arm; None for a study that says nothing about a ratio."""
    if measure == "MD":
        mean, sd, n = (rows[c].to_numpy(dtype=float) for c in ("mean", "sd", "n"))
        return mean, sd**2 / n
    x, n = (rows[c].to_numpy(dtype=float) for c in ("x", "n"))
    if measure != "RD" and (x.sum() == 0 or (x.sum() == n.sum() and measure == "OR")):
        return None
    if ((x == 0) | (x == n)).any():
        x, n = x + add, n + 2 * add
    if measure == "RD":
        return x / n, x * (n - x) / n**3
    if measure == "RR":
        return np.log(x / n), 1 / x - 1 / n
    return np.log(x / (n - x)), 1 / x + 1 / (n - x)


def _connected(stacked: kernel.Network, names: list[str]) -> None:
    part = kernel.components(stacked.first, stacked.second, len(names))
    apart = [n for n, p in zip(names, part, strict=True) if p != part[0]]
    if apart:
        raise DataError(
            f"network_meta_analysis: nothing connects {', '.join(apart)} with {names[0]}. "
            "Leave them out, or choose a reference in their part of the network."
        )


def _differences(fit: kernel.Fitted) -> tuple[FloatArray, FloatArray]:
    """All differences (T, T), row minus column, and their standard errors; the reference is treatment 0."""
    beta = np.append(0.0, fit.beta)
    full = np.zeros((len(beta), len(beta)))
    full[1:, 1:] = fit.covariance
    variance = np.diag(full)[:, None] + np.diag(full)[None, :] - 2 * full
    return beta[:, None] - beta[None, :], np.sqrt(np.maximum(variance, 0.0))


def _p_scores(fit: kernel.Fitted, small_is: str) -> FloatArray:
    """Mean over the others of the probability that a treatment is better."""
    difference, error = _differences(fit)
    z = difference / np.where(error > 0, error, np.inf)
    better = special.ndtr(-z if small_is == "good" else z)
    return np.asarray((better.sum(axis=1) - 0.5) / (len(better) - 1))


def _league(fit: kernel.Fitted, names: list[str], sign: str, level: float) -> pd.DataFrame:
    """Every pair once."""
    difference, error = _differences(fit)
    pairs = list(itertools.combinations(range(len(names)), 2))
    return with_inference(
        pd.DataFrame({"contrast": [f"{names[b]}{sign}{names[a]}" for a, b in pairs]}),
        np.array([difference[b, a] for a, b in pairs]), np.array([error[b, a] for a, b in pairs]), np.inf, level=level,
    )  # fmt: skip
