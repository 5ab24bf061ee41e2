"""Effects by subgroup: against R 4.2.2 (lm, anova) on a shipped trial, and against the library's own parts."""

import numpy as np
import pytest

import kapstats as ks

pytestmark = pytest.mark.filterwarnings("ignore::kapstats.errors.KapstatsWarning")


@pytest.fixture(scope="module")
def trial():
    return ks.datasets.load("kap-parallel")


@pytest.fixture(scope="module")
def day28(trial):
    joined = trial.joined("adqs", ["SEX", "AGEGR1"])
    return joined[joined["AVISIT"].eq("Day 28") & joined["TRT01P"].isin(["KAP IV", "Placebo"])]


@pytest.fixture(scope="module")
def dissociated(trial):
    events = trial.adae[trial.adae["AEDECOD"].eq("Dissociation")]["USUBJID"]
    subjects = trial.adsl[trial.adsl["ROUTE"].isin(["PLACEBO", "INTRAVENOUS"])]
    return subjects.assign(EVENT=subjects["USUBJID"].isin(events) * 1)


def test_adjusted_differences_and_interaction_are_those_of_r(day28):
    got = ks.subgroups(
        day28, "CHG", by="TRT01P", factors=["SEX", "AGEGR1"], covariates=["BASE"], reference="Placebo"
    ).to_frame()
    expected = {  # summary(lm(CHG ~ BASE + TRT01P)) per level; anova of the model with TRT01P * factor
        "F": (-9.1472183008213577, 3.0149158788001134, 0.0037335749398305, 0.62594585351073),
        "M": (-6.34294385432473, 4.21245571936531, 0.15435510689007, 0.62594585351073),
    }
    for name, values in expected.items():
        row = got[got["subgroup"] == name].iloc[0]
        shown = row[["estimate", "std_error", "p_value", "interaction_p_value"]].to_numpy(dtype=float)
        np.testing.assert_allclose(shown, values, rtol=1e-8)
    np.testing.assert_allclose(got[got["factor"] == "AGEGR1"]["interaction_p_value"], 0.64459639500453, rtol=1e-8)
    assert got.iloc[0]["n_active"] == 35
    assert np.isnan(got.iloc[0]["interaction_p_value"])


def test_risk_differences_are_those_of_the_counts(dissociated):
    got = ks.subgroups(dissociated, "EVENT", by="TRT01P", factors=["SEX"], reference="Placebo", measure="RD")
    frame = got.to_frame()
    y, v = [], []
    for name, rows in dissociated.groupby("SEX"):
        counts = [(int(g["EVENT"].sum()), len(g)) for g in (rows[rows["TRT01P"] == a] for a in ("KAP IV", "Placebo"))]
        (a, n1), (c, n2) = counts
        row = frame[frame["subgroup"] == name].iloc[0]
        np.testing.assert_allclose(row["estimate"], a / n1 - c / n2, rtol=1e-12)
        low = ks.risk_difference(a, n1, c, n2)["conf_low"].iloc[0]
        np.testing.assert_allclose(row["conf_low"], low, rtol=1e-12)
        y.append(a / n1 - c / n2)
        v.append(a * (n1 - a) / n1**3 + c * (n2 - c) / n2**3)
    q = (y[0] - y[1]) ** 2 / (v[0] + v[1])  # two levels: the squared z of their difference
    from scipy import stats

    np.testing.assert_allclose(frame["interaction_p_value"].iloc[-1], stats.chi2.sf(q, 1), rtol=1e-10)


def test_odds_ratios_stand_on_the_log_scale_and_survive_zero_cells(dissociated):
    got = ks.subgroups(dissociated, "EVENT", by="TRT01P", factors=["SEX"], reference="Placebo", measure="OR")
    assert got.meta["scale"] == "log"
    everyone = got.to_frame().iloc[0]
    counts = [dissociated[dissociated["TRT01P"] == a]["EVENT"].agg(["sum", "size"]) for a in ("KAP IV", "Placebo")]
    (a, n1), (c, n2) = counts
    np.testing.assert_allclose(everyone["estimate"], np.log(a * (n2 - c) / ((n1 - a) * c)), rtol=1e-9)
    assert 0 < got["interaction_p_value"].iloc[-1] <= 1


def test_a_level_without_one_arm_has_no_number_and_says_so():
    table = {"ARM": list("PPPPKKKK"), "SITE": list("aaabaaaa"), "CHG": [0.0, 1, 3, 2, 5, 7, 6, 9]}
    with pytest.warns(ks.errors.KapstatsWarning, match="cannot be tested"):
        got = ks.subgroups(table, "CHG", by="ARM", factors=["SITE"], reference="P").to_frame()
    assert np.isnan(got.loc[got["subgroup"] == "b", "estimate"]).all()
    assert got["interaction_p_value"].isna().all()


def test_bad_input_is_told(dissociated):
    with pytest.raises(ks.errors.DataError, match="Did you mean 'Placebo'"):
        ks.subgroups(dissociated, "EVENT", by="TRT01P", factors=["SEX"], reference="placebo")
    with pytest.raises(ks.errors.DataError, match="more than 0 and 1"):
        ks.subgroups(dissociated, "AGE", by="TRT01P", factors=["SEX"], measure="RD")
    with pytest.raises(ks.errors.FormulaError, match="takes no covariates"):
        ks.subgroups(dissociated, "EVENT", by="TRT01P", factors=["SEX"], covariates=["AGE"], measure="RD")


def test_the_forest_names_levels_under_their_factor(day28):
    axes = ks.subgroups(day28, "CHG", by="TRT01P", factors=["SEX", "AGEGR1"], reference="Placebo").plot()
    words = {text.get_text() for text in axes.texts}
    assert {"F", "M", "<45", ">=45"} <= words
    assert any("Sex" in w or "SEX" in w for w in words)
