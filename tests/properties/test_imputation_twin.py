"""Conditional-mean reference-based imputation beside a slow twin: one subject at a time, rules written out per visit.

The twin shares no code with the library but the covariance estimate of ``ks.mmrm`` (held elsewhere against R and a
dense likelihood): it codes cell means of arm by visit, solves generalised least squares subject by subject, and builds
the joint mean and covariance of a subject visit by visit. Trials are drawn with two or three arms, intermittent gaps,
subjects without any outcome, outcomes seen after the event, events at the first visit and a strategy per subject.
"""

import warnings

import numpy as np
import pandas as pd
import pytest

import kapstats as ks
from kapstats.errors import KapstatsWarning
from kapstats.response.imputation import impute

RULES = ("MAR", "J2R", "CR", "CIR", "LMCF")


def trial(seed, *, arms=2, visits=3, n=45):
    """Long table in random row order; `from_visit` is the first visit affected, `why` the strategy of the subject."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"id": np.repeat(np.arange(n), visits), "visit": np.tile(10 * np.arange(1, visits + 1), n)})
    names = ["P", "K", "L"][:arms]
    frame["arm"] = pd.Categorical([names[i % arms] for i in frame["id"]], names, ordered=True)
    frame["base"] = np.repeat(rng.normal(30, 4, n), visits)
    frame["y"] = 0.3 * frame["base"] - frame["arm"].cat.codes * frame["visit"] / 20 + rng.normal(size=len(frame))
    frame["y"] += np.repeat(rng.normal(0, 1 + 0.5 * frame["arm"].cat.codes[::visits]), visits)
    start = np.where(rng.random(n) < 0.5, rng.integers(0, visits, n), visits)  # event at any visit, or none
    keeps = rng.random(n) < 0.3  # outcomes seen after the event
    place = np.tile(np.arange(visits), n)
    gone = (place >= start[frame["id"]]) & ~keeps[frame["id"]]
    gone |= rng.random(len(frame)) < 0.07
    gone |= frame["id"].isin(rng.choice(n, 2, replace=False))
    frame["y"] = frame["y"].mask(gone)
    frame["from_visit"] = pd.array([10 * (s + 1) if s < visits else None for s in start[frame["id"]]], dtype="Int64")
    frame["why"] = rng.choice(RULES, n)[frame["id"]]
    return frame.sample(frac=1, random_state=seed).reset_index(drop=True)


def twin(data, reference, by_arm):
    """Imputed values {(id, visit): value}, and strategy {id: name}."""
    visits, arms = sorted(data["visit"].unique()), list(data["arm"].cat.categories)
    m = len(visits)
    people = {i: rows.set_index("visit").reindex(visits) for i, rows in data.groupby("id")}
    first = {i: visits.index(p["from_visit"].iloc[0]) if pd.notna(p["from_visit"].iloc[0]) else m
             for i, p in people.items()}  # fmt: skip
    rule = {i: p["why"].iloc[0] for i, p in people.items()}
    rule = {i: "J2R" if r in ("CIR", "LMCF") and first[i] == 0 else r for i, r in rule.items()}

    def row(arm, k, base):  # cell means of arm by visit, and a slope of base per visit
        x = np.zeros(len(arms) * m + m)
        x[arms.index(arm) * m + k], x[len(arms) * m + k] = 1.0, base
        return x

    used = {i: [k for k in range(m) if pd.notna(p["y"].iloc[k]) and (rule[i] == "MAR" or k < first[i])]
            for i, p in people.items()}  # fmt: skip
    rows = pd.concat([p.iloc[used[i]].assign(id=i).reset_index() for i, p in people.items()])
    group = "arm / " if by_arm else ""
    fit = ks.mmrm(f"y ~ base*visit + arm*visit + us(visit | {group}id)", rows.assign(visit=rows["visit"].astype(str)))
    sigma = {a: (fit.sigma[a] if by_arm else fit.sigma).to_numpy() for a in arms}
    a, b = 0.0, 0.0
    for i, p in people.items():
        arm, keep = p["arm"].dropna().iloc[0], used[i]
        if keep:
            x = np.array([row(arm, k, p["base"].iloc[k]) for k in keep])
            w = np.linalg.inv(sigma[arm][np.ix_(keep, keep)])
            a, b = a + x.T @ w @ x, b + x.T @ w @ p["y"].iloc[keep].to_numpy(float)
    beta = np.linalg.solve(a, b)
    found = {}
    for i, p in people.items():
        y, arm = p["y"].to_numpy(float), p["arm"].dropna().iloc[0]
        own = np.array([row(arm, k, p["base"].iloc[0]) @ beta for k in range(m)])
        other = np.array([row(reference, k, p["base"].iloc[0]) @ beta for k in range(m)])
        mean, cov = joint(rule[i], first[i], own, other, sigma[arm], sigma[reference])
        seen = [k for k in range(m) if not np.isnan(y[k])]
        for k in range(m):
            if k not in seen:
                pull = cov[k, seen] @ np.linalg.inv(cov[np.ix_(seen, seen)]) @ (y[seen] - mean[seen]) if seen else 0.0
                found[i, visits[k]] = mean[k] + pull
    return found


def joint(rule, t, own, other, s_own, s_other):
    """Mean and covariance of all visits when visits from position t on are affected."""
    m = len(own)
    if t == m or rule == "MAR":
        return own, s_own
    if rule == "CR":
        return other, s_other
    after = {
        "J2R": lambda k: other[k],
        "CIR": lambda k: own[t - 1] + other[k] - other[t - 1],
        "LMCF": lambda k: own[t - 1],
    }[rule]
    mean = np.array([own[k] if k < t else after(k) for k in range(m)])
    if rule == "LMCF":
        return mean, s_own
    # visits behind t are regressed on those before as in the reference arm, residuals too
    cov = np.zeros((m, m))
    cov[:t, :t] = s_own[:t, :t]
    slope = s_other[t:, :t] @ np.linalg.inv(s_other[:t, :t])
    rest = s_other[t:, t:] - slope @ s_other[:t, t:]
    cov[t:, :t] = slope @ s_own[:t, :t]
    cov[:t, t:] = cov[t:, :t].T
    cov[t:, t:] = rest + slope @ s_own[:t, :t] @ slope.T
    return mean, cov


@pytest.mark.parametrize("seed", range(12))
def test_imputed_cells_are_those_of_the_slow_twin(seed):
    by_arm, reference = seed % 3 == 2, "K" if seed % 4 == 3 else "P"
    data = trial(seed, arms=2 + seed % 2, visits=3 + seed // 6, n=60 if by_arm else 45)
    expected = twin(data, reference, by_arm)
    group = "arm / " if by_arm else ""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", KapstatsWarning)  # CIR and LMCF without a visit before the event
        found = impute(
            data, formula=f"y ~ base*visit + arm*visit + us(visit | {group}id)", arm="arm", reference=reference,
            strategy={r: r for r in RULES}, reason="why", event="from_visit",
        ).values().frame  # fmt: skip
    ours = dict(zip(zip(found["id"], found["visit"].astype(int), strict=True), found["estimate"], strict=True))
    assert set(ours) == set(expected)
    np.testing.assert_allclose([ours[k] for k in expected], list(expected.values()), rtol=1e-6, atol=1e-7)
