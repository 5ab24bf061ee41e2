"""Random unbalanced designs: the pattern-statistics MMRM equals a dense textbook twin, or refuses by name."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest

import kapstats as ks
from kapstats.errors import KapstatsError
from tests.reference.dense_mmrm import At, Dense

NAMES = ("us", "toep", "toeph", "ar1", "ar1h", "cs", "csh", "ad", "adh", "sp_exp", "sp_gau")
PATHOLOGIES = ("collinear", "lonely visit", "constant", "one per arm")


def trial(seed: int, *, most_visits: int = 5, pathology: str = "") -> tuple[pd.DataFrame, str, bool]:
    """A random unbalanced trial, a structure, and whether the covariance is grouped by arm."""
    rng = np.random.default_rng(seed)
    name = NAMES[seed % len(NAMES)]
    m = int(rng.integers(2, most_visits + 1))
    arms = int(rng.integers(1, 5))
    n = arms if pathology == "one per arm" else int(rng.integers(12, 26)) + 6 * arms + 3 * m
    grouped = bool(arms == 2 and pathology == "" and rng.random() < 0.4 and m <= 3)
    arm = np.arange(n) % arms
    base = rng.normal(30, 5, n)
    root = np.linalg.cholesky(25 * (0.6 ** np.abs(np.subtract.outer(np.arange(m), np.arange(m)))))
    y = -2.0 * arm[:, None] - np.arange(m) + 0.2 * base[:, None] + rng.normal(size=(n, m)) @ root.T
    y = y * np.sqrt(1 + 0.2 * np.arange(m))
    there = rng.random((n, m)) > rng.uniform(0, 0.4 if pathology == "" else 0.6)
    there[:, 0] |= ~there.any(axis=1)
    if pathology == "lonely visit":
        there[1:, -1] = False
        there[:, 0] = True
    i, v = np.nonzero(there)
    frame = pd.DataFrame({"ID": i, "ARM": arm[i], "VISIT": v + 1, "WEEK": v * 1.0 + 0.3 * (v > 1), "BASE": base[i]})
    frame["CHG"] = 3.0 if pathology == "constant" else y[i, v]
    frame["TWIN"] = frame["BASE"] + (1e-5 if pathology == "collinear" else 1.0) * rng.normal(size=n)[i]
    frame["SITE"], frame["W"] = i % 7, rng.uniform(0.5, 2.0, len(frame))
    return frame.sample(frac=1, random_state=seed).reset_index(drop=True), name, grouped


def formula(frame: pd.DataFrame, name: str, grouped: bool) -> str:
    arms = " + C(ARM)*VISIT" if frame["ARM"].nunique() > 1 else " + VISIT"
    where = "WEEK" if name.startswith("sp_") else "VISIT"
    visit = "C(VISIT)" if name.startswith("sp_") else "VISIT"
    return f"CHG ~ BASE + TWIN{arms.replace('VISIT', visit)} + {name}({where} | {'ARM / ' * grouped}ID)"


def dense(fit: Any, name: str, grouped: bool, weights: bool) -> tuple[Dense, np.ndarray]:
    """The twin with orthonormal columns Q, and R of X = Q R: N x N algebra on near-collinear columns is not exact."""
    rows = fit.used
    where = "WEEK" if name.startswith("sp_") else "VISIT"
    points = np.sort(rows[where].unique())
    visit = np.searchsorted(points, rows[where])
    distance = np.abs(np.subtract.outer(points, points)).astype(float)
    group = np.searchsorted(np.sort(rows["ARM"].unique()), rows["ARM"]) if grouped else np.zeros(len(rows), dtype=int)
    q, r = np.linalg.qr(fit.design.X[:, ~fit.design.aliased])
    w = rows["W"].to_numpy() if weights else None
    y, subject = rows["CHG"].to_numpy(), rows["ID"].to_numpy()
    return Dense(y, q, subject, visit, group, name, len(points), fit.reml, w, distance), r


def close(found: Any, expected: Any, rtol: float, what: str) -> None:
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=1e-9, err_msg=what)


def check_against_twin(seed: int, *, most_visits: int = 5, pathology: str = "") -> str:
    """Fit and compare; returns what happened."""
    frame, name, grouped = trial(seed, most_visits=most_visits, pathology=pathology)
    weights, reml = seed % 3 == 0, seed % 4 != 3
    information = "expected" if seed % 5 == 0 else "observed"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            fit = ks.mmrm(
                formula(frame, name, grouped), frame, reml=reml, df="satterthwaite",
                weights="W" if weights else None, information=information,
            )  # fmt: skip
        except KapstatsError as error:
            return f"refused: {error}"
        twin, r = dense(fit, name, grouped, weights)
        compare(fit, twin.at(fit.state.fits.theta[0]), r, np.random.default_rng(seed), information)
    return "equal"


def compare(fit: Any, twin: At, r: np.ndarray, rng: np.random.Generator, information: str) -> None:
    model = twin.model
    scale = np.sqrt(np.diag(twin.w("observed")))
    assert np.abs(twin.gradient * scale).max() < 1e-5, "not a stationary point of the dense likelihood"
    constant = 2 * np.log(np.abs(np.diag(r))).sum() if model.reml else 0.0
    close(-2 * fit.loglik, model.deviance(twin.theta) + constant, 1e-9, "deviance")
    kept = ~fit.design.aliased
    short = rng.normal(size=(3, int(kept.sum())))
    full = np.zeros((3, len(kept)))
    full[:, kept] = short @ r
    close(fit.linear(full).estimate, short @ twin.beta, 1e-6, "estimates")
    w = twin.w(information)
    model_df = [twin.satterthwaite(row, w) for row in short]
    subject_cluster = model.subject
    for df in ("satterthwaite", "normal", "residual", "kenward-roger", "kenward-roger-linear"):
        if df.startswith("kenward") and not model.reml:
            continue
        vcov = twin.phi
        if df.startswith("kenward"):
            vcov = twin.kenward_roger_vcov(w, linear=df.endswith("linear"))
        found = fit.linear(full, df=df)
        close(found.vcov, short @ vcov @ short.T, 2e-6, f"{df} covariance")
        own = {"normal": np.inf, "residual": len(model.y) - kept.sum()}.get(df, model_df)
        trusted = np.isfinite(found.df)
        close(found.df[trusted], np.broadcast_to(own, 3)[trusted], 1e-5, f"{df} df")
        if df.startswith("kenward"):
            joint = fit.joint(full, df=df)
            if np.isfinite(joint.df):
                close([joint.statistic, joint.df], twin.kenward_roger_joint(short, w, vcov), 1e-5, f"{df} joint")
    for kind in ("CR0", "CR1", "CR2", "CR3"):
        vcov, operators = twin.robust(kind, subject_cluster)
        found = fit.linear(full, df="satterthwaite", vcov=kind)
        close(found.vcov, short @ vcov @ short.T, 1e-5, kind)
        close(found.df, [twin.robust_df(row, operators) for row in short], 1e-5, f"{kind} df")


@pytest.mark.parametrize("seed", range(33))
def test_random_design(seed: int) -> None:
    assert check_against_twin(seed) == "equal"


@pytest.mark.parametrize("seed", [20003, 20023, 20025, 20030, 20034, 20045])
def test_random_design_of_seven_to_twelve_visits(seed: int) -> None:
    assert check_against_twin(seed, most_visits=12) == "equal"


@pytest.mark.parametrize("pathology", PATHOLOGIES)
@pytest.mark.parametrize("seed", range(4))
def test_pathological_design(seed: int, pathology: str) -> None:
    outcome = check_against_twin(100 + seed, pathology=pathology)
    assert outcome.startswith("refused") if pathology in ("constant", "one per arm") else outcome
