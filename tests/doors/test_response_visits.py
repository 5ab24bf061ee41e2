"""The order of visits, too many visits, and outcomes that cannot be imputed as they are: said at once and by name."""

import numpy as np
import pandas as pd
import pytest

import kapstats as ks
from kapstats.errors import ConvergenceError, DataError, KapstatsWarning

quiet = pytest.mark.filterwarnings("ignore::kapstats.errors.KapstatsWarning")
NAMES = ["Screening", "Early", "Middle", "Late"]  # not in alphabetical order, no numbers


def trial(names: list[str], n: int = 60, seed: int = 1) -> pd.DataFrame:
    r = np.random.default_rng(seed)
    data = pd.DataFrame({"id": np.repeat(np.arange(n), len(names)), "k": np.tile(np.arange(len(names)), n)})
    data["visit"] = np.array(names)[data.k]
    data["arm"] = np.where(data.id % 2, "KAP", "Placebo")
    e = r.normal(size=len(data))
    for i in range(1, len(data)):
        e[i] = e[i] if data.k[i] == 0 else 0.8 * e[i - 1] + 0.6 * e[i]
    return data.assign(y=e - (data.arm == "KAP"), r=(e > 0) * 1, note="x")


@quiet
@pytest.mark.parametrize("structure", ["ar1", "ar1h", "ad", "adh", "toep", "toeph"])
def test_a_structure_over_time_needs_an_order_that_is_stated(structure):
    data = trial(NAMES)
    formula = f"y ~ arm*visit + {structure}(visit | id)"
    for call in (
        lambda d: ks.mmrm(formula, d),
        lambda d: ks.MmrmStatistics.from_data(formula, d),
        lambda d: ks.lmm(f"y ~ arm*visit + (1 | id) + {structure}(visit | id)", d),
    ):
        with pytest.raises(DataError, match=r"visit: the order of .*Early.* is not stated"):
            call(data)
    wanted = ks.mmrm(formula, data, order={"visit": NAMES}).loglik
    stated = data.assign(visit=pd.Categorical(data.visit, NAMES, ordered=True))
    assert ks.mmrm(formula, stated).loglik == pytest.approx(wanted)
    assert ks.mmrm(formula, data.assign(visitN=data.k)).loglik == pytest.approx(wanted)
    numbered = trial(["Week 2", "Week 4", "Week 10", "Week 12"])
    assert ks.mmrm(formula, numbered).loglik == pytest.approx(wanted)


@quiet
@pytest.mark.parametrize("structure", ["us", "cs", "csh"])
def test_a_structure_without_an_order_takes_any(structure):
    data = trial(NAMES)
    formula = f"y ~ arm*visit + {structure}(visit | id)"
    a, b = ks.mmrm(formula, data), ks.mmrm(formula, data, order={"visit": NAMES})
    assert a.loglik == pytest.approx(b.loglik)


@quiet
def test_gee_and_imputation_need_the_order_where_it_decides():
    data = trial(NAMES)
    formula = "r ~ arm + cluster(id)"
    with pytest.raises(DataError, match="order of"):
        ks.gee(formula, data, structure="ar1", time="visit")
    a = ks.gee(formula, data, structure="ar1", time="visit", order={"visit": NAMES}).coefficients.to_frame()
    b = ks.gee(formula, data, structure="ar1", time="k").coefficients.to_frame()
    pd.testing.assert_frame_equal(a, b)
    numbered = trial(["Week 2", "Week 4", "Week 10", "Week 12"])
    c = ks.gee(formula, numbered, structure="ar1", time="visit").coefficients.to_frame()
    pd.testing.assert_frame_equal(c, b)
    gaps = data.assign(y=data.y.where((data.id % 5 > 0) | (data.k < 2)))
    plan = {"formula": "y ~ arm*visit + us(visit | id)", "arm": "arm", "reference": "Placebo"}
    with pytest.raises(DataError, match="order of"):
        ks.impute(gaps, strategy="J2R", **plan)
    ks.impute(gaps, strategy="MAR", **plan)


@quiet
def test_more_visits_than_subjects_is_said_at_once_with_both_numbers():
    data = trial([f"Week {k:02d}" for k in range(1, 31)], n=12)
    with pytest.raises(ConvergenceError, match=r"12 subjects .* 30 visits"):
        ks.mmrm("y ~ arm + us(visit | id)", data)
    with pytest.raises(ConvergenceError, match=r"6 subjects in KAP .* 30 visits"):
        ks.mmrm("y ~ arm + us(visit | arm / id)", data)
    with pytest.raises(ConvergenceError, match=r"12 subjects .* 30 visits"):
        ks.lmm("y ~ arm + (1 | id) + us(visit | id)", data)
    chain = ks.mmrm("y ~ arm + us(visit | id)", data, covariance=["us", "cs"])
    assert chain.structure == "cs"
    assert any("12 subjects" in w for w in chain.warnings)


@quiet
def test_a_binary_outcome_is_not_imputed_as_normal_without_a_word():
    data = trial(["Week 1", "Week 2", "Week 3"])
    data["r"] = data.r.where((data.id % 5 > 0) | (data.k < 1)).astype(float)
    plan = {"formula": "r ~ arm*visit + us(visit | id)", "arm": "arm", "reference": "Placebo"}
    with pytest.warns(KapstatsWarning, match=r"r takes 2 values only \(0, 1\)"):
        found = ks.impute(data, **plan)
    assert any("normal" in w for w in found.warnings)
    assert any("normal" in w for w in found.analyse("arm").meta["warnings"])


@quiet
def test_an_arm_without_an_outcome_at_a_visit_is_named_by_impute():
    data = trial(["Week 1", "Week 2", "Week 3"])
    data["y"] = data.y.where(~((data.arm == "KAP") & (data.k == 2)))
    with pytest.raises(DataError, match=r"Week 3"):
        ks.impute(data, formula="y ~ arm*visit + us(visit | id)", arm="arm", reference="Placebo", strategy="MAR")
