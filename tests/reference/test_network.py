"""Network meta-analysis against R netmeta 3.3-1 (R 4.2.2) on three simulated multi-arm trials, and its laws."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import kapstats as ks

pytestmark = pytest.mark.filterwarnings("ignore::kapstats.errors.KapstatsWarning")

HERE = Path(__file__).parent / "evidence"
ARMS = pd.read_csv(HERE / "network_arms.csv")
EXPECTED = pd.read_csv(HERE / "sim_netmeta_routes.csv")


def of(term):
    return ARMS[ARMS["term"] == term].drop(columns="term")


@pytest.mark.parametrize("model", ["common", "reml", "dl"])
@pytest.mark.parametrize("term", sorted(EXPECTED["AEDECOD"].unique()))
def test_netmeta(term, model):
    got = ks.network_meta_analysis(of(term), "OR", model, reference="PLACEBO")
    expected = EXPECTED[EXPECTED["AEDECOD"] == term].set_index("TRTA")
    kind, tolerance = ("common", 1e-10) if model == "common" else ("random", 1e-8)
    rows = got.to_frame().set_index("contrast")
    for arm, row in expected.iterrows():
        shown = rows.loc[f"{arm} / PLACEBO", ["estimate", "std_error"]].to_numpy(float)
        np.testing.assert_allclose(shown, [row[f"log_or_{kind}"], row[f"se_{kind}"]], atol=tolerance)
    np.testing.assert_allclose([got.meta["q"], got.meta["q_df"]], expected[["Q", "df_Q"]].iloc[0], rtol=1e-9)
    assert got.meta["tau2"] == 0  # netmeta stops its search at 1e-10


def pairwise(seed, k=6, tau=0.6):
    rng = np.random.default_rng(seed)
    n = rng.integers(40, 120, (k, 2))
    p = 1 / (1 + np.exp(-(np.array([-1.0, 0.0]) + np.c_[np.zeros(k), rng.normal(0, tau, k)])))
    x = rng.binomial(n, p)
    long = pd.DataFrame(
        {"study": np.repeat(np.arange(k), 2), "treatment": ["b", "a"] * k, "x": x.ravel(), "n": n.ravel()}
    )
    return long, pd.DataFrame({"x1": x[:, 1], "n1": n[:, 1], "x2": x[:, 0], "n2": n[:, 0]})


@pytest.mark.parametrize("model", ["common", "dl", "reml"])
@pytest.mark.parametrize("measure", ["OR", "RR", "RD"])
def test_two_treatments_are_an_ordinary_meta_analysis(model, measure):
    long, wide = pairwise(4)
    got = ks.network_meta_analysis(long, measure, model, reference="b")
    ordinary = ks.meta_analysis(wide, measure, model, ci="normal", drop00=False)
    first = ordinary.to_frame().iloc[0]
    row = got.to_frame().iloc[0]
    for name in ("estimate", "std_error", "p_value", "conf_low"):
        np.testing.assert_allclose(row[name], first[name], rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(
        [got.meta["tau2"], got.meta["q"]], [ordinary.meta["tau2"], ordinary.meta["q"]], rtol=1e-7
    )
    np.testing.assert_allclose(got.meta["q_within"], got.meta["q"], rtol=1e-9)
    assert got.meta["q_between_df"] == 0


def test_the_reference_and_the_order_do_not_change_a_contrast():
    data = of("Nausea")
    a, b = (ks.network_meta_analysis(data, reference=r) for r in ("PLACEBO", "IV"))
    one = a.to_frame().set_index("contrast").loc["IV / PLACEBO"]
    other = b.to_frame().set_index("contrast").loc["PLACEBO / IV"]
    np.testing.assert_allclose(other["estimate"], -one["estimate"], rtol=1e-10)
    np.testing.assert_allclose(other["std_error"], one["std_error"], rtol=1e-10)
    turned = ks.network_meta_analysis(data.sample(frac=1, random_state=3), reference="PLACEBO").to_frame()
    turned = turned.set_index("contrast").loc[a["contrast"]]
    np.testing.assert_allclose(turned["estimate"], a["estimate"], rtol=1e-10)
    np.testing.assert_allclose(turned["p_score"], a["p_score"], rtol=1e-9)
    assert len(a.meta["league"]) == 15
    scores = [a.meta["reference_p_score"], *a["p_score"]]
    np.testing.assert_allclose(np.mean(scores), 0.5)


def test_an_indirect_comparison_is_the_difference_of_its_parts():
    """Bucher 1997: A - B and C - B in one trial each give A - C, its variance their sum."""
    long = pd.DataFrame(
        {"study": [1, 1, 2, 2], "treatment": ["A", "B", "C", "B"], "x": [9, 4, 12, 5], "n": [30, 30, 40, 41]}
    )
    got = ks.network_meta_analysis(long, model="common", reference="C").to_frame().set_index("contrast")
    logit = np.log(long["x"] / (long["n"] - long["x"]))
    np.testing.assert_allclose(got.loc["A / C", "estimate"], logit[0] - logit[1] - logit[2] + logit[3])
    variance = (1 / long["x"] + 1 / (long["n"] - long["x"])).sum()
    np.testing.assert_allclose(got.loc["A / C", "std_error"], np.sqrt(variance))


def test_a_contradiction_around_a_loop_is_inconsistency():
    base = {"study": [1, 1, 2, 2, 3, 3], "treatment": ["A", "B", "B", "C", "A", "C"], "n": 200, "sd": 5.0}
    agree = ks.network_meta_analysis(pd.DataFrame({**base, "mean": [0, 1, 1, 3, 0, 3]}), "MD", "common")
    clash = ks.network_meta_analysis(pd.DataFrame({**base, "mean": [0, 1, 1, 3, 0, -3]}), "MD", "common")
    assert agree.meta["q_between"] < 1e-9
    assert clash.meta["q_between"] > 20
    assert clash.meta["q_between_df"] == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"treatment": ["A", "B", "C", "D"]}, "nothing connects C, D with A"),
        ({"treatment": ["A", "A", "A", "B"]}, "has a treatment twice"),
        ({"x": [31, 4, 3, 3]}, "impossible counts"),
        ({"study": [1, 2, 3, 4]}, "no study has two arms"),
    ],
)
def test_what_is_no_network(change, message):
    data = {"study": [1, 1, 2, 2], "treatment": ["A", "B", "A", "B"], "x": [3, 4, 3, 3], "n": [30] * 4}
    with pytest.raises(ks.errors.DataError, match=message):
        ks.network_meta_analysis({**data, **change})


def test_silent_studies_and_zero_cells():
    data = pd.DataFrame({"study": [1, 1, 2, 2], "treatment": ["A", "B"] * 2, "x": [0, 0, 0, 5], "n": [20] * 4})
    with pytest.warns(ks.errors.KapstatsWarning, match="1 studies left out"):
        got = ks.network_meta_analysis(data, reference="A")
    np.testing.assert_allclose(got["estimate"].iloc[0], np.log((5.5 / 15.5) / (0.5 / 20.5)))
    assert ks.network_meta_analysis(data, "RD").meta["k"] == 2
