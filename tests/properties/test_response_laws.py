"""Laws of the tests of model terms, over random designs with and without empty cells.

A type II test of least squares is the extra sum of squares R(term | terms that do not contain it): found here by two
least squares fits with ranks from `matrix_rank`, over columns written out by hand. KAPSTATS_LAW_CASES sets how many
designs are drawn.
"""

import itertools
import os

import numpy as np
import pandas as pd
import pytest

import kapstats as ks

CASES = int(os.environ.get("KAPSTATS_LAW_CASES", "40"))
NUMERIC = {"x"}

pytestmark = pytest.mark.filterwarnings("ignore::kapstats.errors.KapstatsWarning")


def columns(data: pd.DataFrame, term: str) -> np.ndarray:
    """All columns of a term: every factor with a column per level."""
    found = [np.ones(len(data))]
    for v in term.split(":"):
        own = (
            [data[v].to_numpy(float)]
            if v in NUMERIC
            else [(data[v] == k).to_numpy(float) for k in data[v].cat.categories]
        )
        found = [a * b for a, b in itertools.product(found, own)]
    return np.column_stack(found)


def contains(outer: str, inner: str) -> bool:
    a, b = set(outer.split(":")), set(inner.split(":"))
    return b < a and a & NUMERIC == b & NUMERIC


def residual(data: pd.DataFrame, terms: list[str], weights: np.ndarray) -> tuple[float, int]:
    root = np.sqrt(weights)
    X = np.column_stack([np.ones(len(data)), *(columns(data, t) for t in terms)]) * root[:, None]
    y = data.y.to_numpy() * root
    X = X[:, np.linalg.norm(X, axis=0) > 0]
    X = X / np.linalg.norm(X, axis=0)
    return float(((y - X @ np.linalg.lstsq(X, y, rcond=1e-9)[0]) ** 2).sum()), int(np.linalg.matrix_rank(X, tol=1e-8))


def extra_sum_of_squares(data: pd.DataFrame, terms: list[str], weights: np.ndarray) -> dict[str, tuple[int, float]]:
    full, rank = residual(data, terms, weights)
    variance, found = full / (len(data) - rank), {}
    for t in terms:
        others = [u for u in terms if u != t and not contains(u, t)]
        (before, small), (after, large) = residual(data, others, weights), residual(data, [*others, t], weights)
        df = large - small
        found[t] = (df, (before - after) / df / variance if df else np.nan)
    return found


MODELS = [
    ["A", "B", "A:B"],
    ["x", "A", "B", "A:B"],
    ["x", "A", "B", "x:A", "x:B", "A:B", "x:A:B"],
    ["C", "A:B"],
    ["A", "B", "C", "A:B", "A:C"],
    ["A", "B", "C", "A:B", "A:C", "B:C", "A:B:C"],
    ["A", "A:B", "x:C"],
]


def drawn(seed: int) -> tuple[pd.DataFrame, list[str], np.ndarray]:
    """A table with factors A, B, C and a covariate x, up to a third of the A by B cells empty; a model; weights."""
    r = np.random.default_rng(seed)
    na, nb, nc = (int(k) for k in r.integers(2, 5, 3))
    n = na * nb * 6
    data = pd.DataFrame({"A": r.integers(0, na, n), "B": r.integers(0, nb, n), "C": r.integers(0, nc, n)}).astype(str)
    data["x"] = r.normal(3, 1, n)
    cells = list(itertools.product(range(na), range(nb)))
    empty = 0 if seed % 5 == 0 else int(r.integers(1, max(2, len(cells) // 3 + 1)))
    for k in r.choice(len(cells), empty, replace=False):
        data = data[~((str(cells[k][0]) == data.A) & (str(cells[k][1]) == data.B))]
    data = data.reset_index(drop=True)
    data["y"] = r.normal(size=len(data)) + 0.4 * data.A.astype(int) + 0.3 * data.x
    for v in "ABC":
        data[v] = pd.Categorical(data[v], sorted(data[v].unique()), ordered=True)
    weights = np.ones(len(data)) if seed % 3 else r.uniform(0.5, 2.0, len(data))
    return data, MODELS[seed % len(MODELS)], weights


def usable(data: pd.DataFrame, terms: list[str]) -> bool:
    return min(data[v].nunique() for v in "ABC") > 1 and len(data) > 5 + residual(data, terms, np.ones(len(data)))[1]


def test_type_two_is_the_extra_sum_of_squares():
    seen = wrong = 0
    for seed in range(CASES):
        data, terms, weights = drawn(seed)
        if not usable(data, terms):
            continue
        found = ks.ancova("y ~ " + " + ".join(terms), data.assign(w=weights), weights="w").anova(type=2).to_frame()
        truth = extra_sum_of_squares(data, terms, weights)
        for row in found.itertuples():
            df, f = truth[row.term]
            seen += 1
            wrong += not (row.num_df == df and np.isclose(row.statistic, f, rtol=1e-6, equal_nan=True))
    assert seen > 2 * CASES
    assert wrong == 0, f"{wrong} of {seen} tests differ"


FITS = {
    "mmrm": lambda d: ks.mmrm("y ~ arm*site + visit + us(visit | id)", d, df="satterthwaite"),
    "lmm": lambda d: ks.lmm("y ~ arm*site + visit + (1 | id)", d, df="satterthwaite"),
    "gee": lambda d: ks.gee("r ~ arm*site + visit + cluster(id)", d),
    "glmm": lambda d: ks.glmm("r ~ arm*site + visit + (1 | id)", d),
}


@pytest.mark.parametrize("verb", FITS)
def test_a_term_that_no_other_contains_has_one_test(verb):
    """Types II and III are then the same hypothesis: statistic, df and p value.

    Under Satterthwaite the joint df of `mmrm` depend on the rows of the hypothesis, which are R mmrm's: there statistic
    and numerator only.
    """
    for seed in range(max(2, CASES // 20)):
        r = np.random.default_rng(seed)
        n = 45
        subject = pd.DataFrame(
            {
                "id": np.arange(n),
                "arm": np.array(list("PAB"))[np.arange(n) % 3],
                "site": r.integers(1, 4, n).astype(str),
            }
        )
        data = subject.merge(pd.DataFrame({"visit": ["1", "2", "3"]}), how="cross")
        data = data[~((data.arm == "P") & (data.site == "2"))].reset_index(drop=True)
        data["y"] = r.normal(size=n)[data.id] + r.normal(size=len(data))
        data["r"] = (data.y > 0.3) * 1
        data = data.iloc[r.permutation(len(data))[: 9 * len(data) // 10]].reset_index(drop=True)
        for c, order in (("arm", "PAB"), ("site", "123"), ("visit", "123")):
            data[c] = pd.Categorical(data[c], list(order), ordered=True)
        fit = FITS[verb](data)
        two, three = (fit.anova(type=k).to_frame().set_index("term").loc[["visit", "arm:site"]] for k in (2, 3))
        same = ["num_df", "statistic"] if verb == "mmrm" else list(two.columns)
        pd.testing.assert_frame_equal(two[same], three[same], rtol=1e-9)
        assert fit.anova(type=2).to_frame().num_df.tolist() == [2, 2, 2, 3]
