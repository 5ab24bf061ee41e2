"""Natural splines, SAS's subject count in BIC, and subgroups of which one lacks an arm."""

import numpy as np
import pandas as pd
import pytest

import kapstats as ks
from kapstats.errors import ConvergenceError, FormulaError, KapstatsWarning

X = np.array([1, 2.5, 3, 4.2, 5, 7, 8.1, 9, 12])


def test_natural_splines_are_those_of_r():
    """R 4.2.2 splines::ns(x, df = 3): the fitted values and predictions beyond the range (linear) of lm."""
    basis = np.array(
        [
            [0, 0, 0],
            [-0.11035966079, 0.3533437288, -0.22577287606],
            [-0.11987902372, 0.4450376289, -0.28436170572],
            [-0.03755233845, 0.5642172039, -0.36034229520],
            [0.09884579493, 0.5590094014, -0.35258130662],
            [0.46589440159, 0.4104117013, -0.17493309860],
            [0.52219489896, 0.3487082667, -0.01283955005],
            [0.46099883124, 0.3332599678, 0.14113656533],
            [-0.14993291298, 0.4152818093, 0.73465110365],
        ]
    )
    beyond = np.array([[0.09110201547, -0.2523329206, 0.1612309051], [-0.64795538055, 0.4997325289, 1.1482228517]])
    y = np.sin(X) + X
    b = np.linalg.lstsq(np.column_stack([np.ones(9), basis]), y, rcond=None)[0]
    fit = ks.ancova("y ~ ns(x, df=3)", pd.DataFrame({"x": X, "y": y}))
    assert fit.coefficients.to_frame().term.tolist()[1:] == [f"ns(x, df=3){i}" for i in (1, 2, 3)]
    np.testing.assert_allclose(fit.coefficients.to_frame().estimate, b, rtol=1e-7)
    found = fit.predict(pd.DataFrame({"x": [0.0, 14.0]})).to_frame().estimate
    np.testing.assert_allclose(found, b[0] + beyond @ b[1:], rtol=1e-7)


def test_a_spline_that_is_not_known_names_those_that_are():
    data = pd.DataFrame({"x": X, "y": X})
    with pytest.raises(FormulaError, match=r"poly.*bs.*ns.*cr"):
        ks.ancova("y ~ rcs(x)", data)
    with pytest.raises(FormulaError, match="inside the range"):
        ks.ancova("y ~ ns(x, knots=[40])", data)


@pytest.mark.filterwarnings("ignore::kapstats.errors.KapstatsWarning")
def test_bic_counts_all_subjects_where_asked_as_sas_does():
    r = np.random.default_rng(0)
    data = pd.DataFrame({"id": np.repeat(np.arange(40), 3), "visit": np.tile([1, 2, 3], 40), "y": r.normal(size=120)})
    data.loc[data.id >= 37, "y"] = np.nan
    used, everyone = (ks.mmrm("y ~ visit + us(visit | id)", data, bic_subjects=k) for k in ("used", "all"))
    for fit, n in ((used, 37), (everyone, 40)):
        assert fit.bic == pytest.approx(-2 * fit.loglik + 6 * np.log(n), abs=1e-9)
        assert fit.n_subjects == 37
    assert used.aic == everyone.aic


def test_a_level_without_the_reference_arm_leaves_the_interaction_test_of_the_others():
    r = np.random.default_rng(2)
    data = pd.DataFrame({"arm": np.tile(["KAP", "P"], 60), "site": np.repeat(["1", "2", "3"], 40)})
    data["y"] = r.normal(size=120) + (data.arm == "KAP") * (data.site == "1")
    data = data[~((data.site == "3") & (data.arm == "P"))].reset_index(drop=True)
    data["arm"] = pd.Categorical(data.arm, ["P", "KAP"], ordered=True)
    with pytest.warns(KapstatsWarning):
        found = ks.subgroups(data, "y", by="arm", factors=["site"])
    without = ks.subgroups(data[data.site != "3"].reset_index(drop=True), "y", by="arm", factors=["site"]).to_frame()
    table = found.to_frame()
    expected = without.interaction_p_value[without.factor == "site"].iloc[0]
    assert np.isfinite(expected)
    assert table.interaction_p_value[table.factor == "site"].tolist() == pytest.approx([expected] * 3)
    assert np.isnan(table.estimate[(table.factor == "site") & (table.subgroup == "3")].iloc[0])
    assert any("site: 3 lack" in w for w in found.meta["warnings"])


@pytest.mark.filterwarnings("ignore::kapstats.errors.KapstatsWarning")
def test_every_fit_says_how_many_subjects_it_used():
    r = np.random.default_rng(3)
    data = pd.DataFrame({"id": np.repeat(np.arange(30), 3), "visit": np.tile([1, 2, 3], 30), "y": r.normal(size=90)})
    data["site"] = (data.id % 5).astype(str)
    data["r"] = (data.y > 0) * 1
    data.loc[data.id == 7, "y"] = np.nan
    assert ks.mmrm("y ~ visit + us(visit | id)", data).n_subjects == 29
    assert ks.lmm("y ~ visit + (1 | site/id)", data).n_subjects == 29
    assert ks.glmm("r ~ visit + (1 | id)", data).n_subjects == 30
    assert ks.gee("r ~ visit + cluster(id)", data).n_subjects == 30
    assert ks.ancova("y ~ site", data[data.visit == 3]).n_subjects == 29


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("seed", [1, 3, 4, 5])
def test_a_covariance_without_a_maximum_ends_in_our_error_alone(seed):
    r = np.random.default_rng(seed)
    data = pd.DataFrame({"id": np.repeat(range(4), 4), "v": np.tile([1, 2, 3, 4], 4), "y": r.normal(size=16)})
    with pytest.raises(ConvergenceError):
        ks.mmrm("y ~ C(v)*arm + us(v | id)", data.assign(arm=data.id % 2))
