"""Likelihood-ratio tests through the exported verbs: nested models tested, all others refused with the reason."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import kapstats as ks
from kapstats.errors import ConvergenceError, FormulaError, KapstatsError
from kapstats.response import nesting

pytestmark = pytest.mark.filterwarnings("ignore::kapstats.errors.KapstatsWarning")


def trial(n: int = 60, seed: int = 0) -> pd.DataFrame:
    r = np.random.default_rng(seed)
    data = pd.DataFrame({"id": np.repeat(np.arange(n), 4), "day": np.tile([1, 2, 3, 4], n)})
    data["visit"] = pd.Categorical("V" + data.day.astype(str), ordered=True)
    data["arm"] = pd.Categorical(np.where(data.id % 2, "A", "P"), ["P", "A"], ordered=True)
    data["base"] = r.normal(25, 4, n)[data.id]
    data["x"] = r.normal(size=len(data))
    data["y"] = (
        data.base * 0.5 - data.day * (data.arm == "A") * 0.8 + r.normal(0, 2, n)[data.id] + r.normal(0, 2, 4 * n)
    )
    return data.assign(r=(data.y > 12) * 1, site=(data.id % 6).astype(str), comment="")


DATA = trial()


def mmrm(structure: str, fixed: str = "arm*visit", **more):
    return ks.mmrm(f"y ~ {fixed} + {structure}", DATA, **more)


@pytest.fixture(scope="module")
def structures():
    return {s: mmrm(f"{s}(visit | id)") for s in ("us", "toeph", "toep", "ar1h", "ar1", "csh", "cs", "adh", "ad")}


INSIDE = {
    "us": {"toeph", "toep", "ar1h", "ar1", "csh", "cs", "adh", "ad"},
    "toeph": {"toep", "ar1h", "ar1", "csh", "cs"},
    "adh": {"ad", "ar1h", "ar1"},
    "toep": {"ar1", "cs"},
    "ar1h": {"ar1"},
    "csh": {"cs"},
    "ad": {"ar1"},
}


def test_covariance_structures_are_compared_where_one_is_a_special_case_of_the_other(structures):
    """Every pair; where a test is made the statistic is twice the difference and p its chi-square tail."""
    for large, a in structures.items():
        for small, b in structures.items():
            if small in INSIDE.get(large, set()):
                found = a.lrt(b).to_frame().iloc[0]
                assert found.statistic == pytest.approx(2 * (a.loglik - b.loglik))
                assert found.p_value == pytest.approx(stats.chi2.sf(found.statistic, a.n_parameters - b.n_parameters))
            else:
                with pytest.raises(FormulaError, match=r"not nested|larger model first"):
                    a.lrt(b)


def test_the_table_of_structures_is_true_of_the_matrices():
    """Each small structure, drawn at random, is a matrix of the form of the large one (rank of the fit to its span)."""
    r = np.random.default_rng(1)
    m = 4
    lag = np.abs(np.subtract.outer(np.arange(m), np.arange(m)))

    def correlation(kind: str) -> np.ndarray:
        rho = r.uniform(0.1, 0.8, m - 1)
        if kind == "cs":
            return np.where(lag == 0, 1.0, rho[0])
        if kind == "ar1":
            return rho[0] ** lag
        if kind == "toep":
            return np.r_[1.0, rho][lag]
        steps = np.r_[0.0, np.cumsum(np.log(rho))]
        return np.exp(-np.abs(np.subtract.outer(steps, steps)))  # ad

    def member(kind: str, sigma: np.ndarray) -> bool:
        sd = np.sqrt(np.diag(sigma))
        c = sigma / np.outer(sd, sd)
        if not kind.endswith("h") and kind != "us" and not np.allclose(sd, sd[0]):
            return False
        core = {"toeph": "toep", "us": "us"}.get(kind, kind.removesuffix("h"))
        first = c[0, 1]
        by_lag = all(np.allclose(c[lag == k], c[lag == k][0]) for k in range(m))
        chain = np.allclose(c[0, 2], c[0, 1] * c[1, 2]) and np.allclose(c[1, 3], c[1, 2] * c[2, 3])
        chain &= np.allclose(c[0, 3], c[0, 1] * c[1, 2] * c[2, 3])
        tests = {
            "us": True,
            "toep": by_lag,
            "cs": np.allclose(c[lag > 0], first),
            "ar1": np.allclose(c, first**lag),
            "ad": chain,
        }
        return bool(tests[core])

    kinds = ("us", "toeph", "toep", "ar1h", "ar1", "csh", "cs", "adh", "ad")
    for small in kinds[1:]:
        core = "toep" if small in ("toep", "toeph") else small.removesuffix("h")
        scale = r.uniform(1, 2, m) if small.endswith("h") else np.full(m, 1.3)
        sigma = correlation(core) * np.outer(scale, scale)
        for large in kinds:
            assert nesting.nested(large, small, m) == member(large, sigma), (large, small)


def test_fixed_effects_must_be_nested():
    ml = {"reml": False, "df": "satterthwaite"}
    a, b = mmrm("us(visit | id)", "base*visit", **ml), mmrm("us(visit | id)", "arm", **ml)
    with pytest.raises(FormulaError, match="armA of the smaller model"):
        a.lrt(b)
    a, b = (ks.lmm(f"y ~ {f} + (1 | id)", DATA, **ml) for f in ("base*visit", "arm"))
    with pytest.raises(FormulaError, match="armA of the smaller model"):
        a.lrt(b)
    a, b = (ks.glmm(f"r ~ {f} + (1 | id)", DATA) for f in ("base*visit", "arm"))
    with pytest.raises(FormulaError, match="armA of the smaller model"):
        a.lrt(b)
    # other coding, same span: day is a combination of the visits
    a, b = mmrm("us(visit | id)", "arm*visit", **ml), mmrm("us(visit | id)", "arm + day", **ml)
    assert a.lrt(b).to_frame().df[0] == 8 - 3


def test_random_effects_must_be_nested():
    slope = ks.lmm("y ~ arm + (day | id)", DATA)
    assert slope.lrt(ks.lmm("y ~ arm + (1 | id)", DATA)).to_frame().p_value[0] <= 1
    assert slope.lrt(ks.lmm("y ~ arm + (day || id)", DATA)).to_frame().p_value[0] <= 1
    assert slope.lrt(ks.lmm("y ~ arm + (0 + day | id)", DATA)).to_frame().p_value[0] <= 1
    for other in ("(1 | site)", "(x | id)", "(0 + x | id)"):
        with pytest.raises(FormulaError, match=r"not nested|larger model first"):
            slope.lrt(ks.lmm(f"y ~ arm + {other}", DATA))
    with pytest.raises(FormulaError, match="random effects"):
        ks.glmm("r ~ arm + (day | id)", DATA).lrt(ks.glmm("r ~ arm + (1 | site)", DATA))
    with pytest.raises(FormulaError, match="random effects"):  # covariances that the larger model sets to zero
        ks.lmm("y ~ arm + (day || id) + (x | site)", DATA).lrt(ks.lmm("y ~ arm + (day | id)", DATA))


def test_residual_structures_beside_random_effects_must_be_nested():
    a = ks.lmm("y ~ arm*visit + (1 | id) + ar1(visit | id)", DATA)
    assert a.lrt(ks.lmm("y ~ arm*visit + (1 | id)", DATA)).to_frame().df[0] == 1
    with pytest.raises(FormulaError, match="no special case"):
        ks.lmm("y ~ arm*visit + (1 | id) + ar1h(visit | id)", DATA).lrt(
            ks.lmm("y ~ arm*visit + (1 | id) + ad(visit | id)", DATA)
        )


def test_a_grouped_covariance_holds_the_one_without_groups_and_not_the_other_way_round():
    a, b = mmrm("cs(visit | arm / id)"), mmrm("cs(visit | id)")
    assert a.lrt(b).to_frame().df[0] == 2
    with pytest.raises(FormulaError, match="no special case"):
        mmrm("us(visit | id)").lrt(a)


def test_other_verbs_rows_and_responses_are_refused():
    a, b = mmrm("us(visit | id)"), ks.lmm("y ~ arm*visit + (1 | id)", DATA)
    for model, other in ((a, b), (b, a), (ks.glmm("r ~ arm + (1 | id)", DATA), b)):
        with pytest.raises(FormulaError, match="two fits of one verb"):
            model.lrt(other)
    swapped = DATA.assign(y=DATA.y.to_numpy()[::-1])
    with pytest.raises(FormulaError, match="rows"):
        a.lrt(ks.mmrm("y ~ arm*visit + cs(visit | id)", swapped))


def test_summed_statistics_are_compared_too():
    from_sums = {
        s: ks.MmrmStatistics.from_data(f"y ~ arm*visit + {s}(visit | id)", DATA).fit() for s in ("us", "cs", "ar1")
    }
    whole = mmrm("us(visit | id)").lrt(mmrm("cs(visit | id)")).to_frame()
    assert from_sums["us"].lrt(from_sums["cs"]).to_frame().p_value[0] == pytest.approx(whole.p_value[0], rel=1e-6)
    with pytest.raises(KapstatsError):
        from_sums["cs"].lrt(from_sums["ar1"])


def test_a_smaller_model_with_the_higher_likelihood_is_an_error():
    with pytest.raises(ConvergenceError, match="higher log-likelihood"):
        nesting.statistic(-100.0, -99.0)
    assert nesting.statistic(-99.0, -99.0 + 1e-9) == 0.0
