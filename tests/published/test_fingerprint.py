"""The method behind a printed interval: known cases from print, and every method recognised by its own output."""

import numpy as np
import pytest

import kapstats as ks
from kapstats.evidence.fingerprint import UNTRIED, recover_counts
from kapstats.safety import two_by_two

KATZ = [
    (60, 111, 42, 108, ("2.11", "28.22")),
    (52, 98, 42, 108, ("0.68", "27.67")),
    (70, 101, 52, 100, ("4.01", "30.60")),
    (41, 343, 8, 222, ("4.13", "12.57")),
    (35, 343, 3, 222, ("5.31", "12.40")),
]


def test_elekt_d_is_agresti_caffo_or_a_score_interval_but_not_wald():
    # score limits by their definition are 3.92, 24.18 (with N / (N - 1)) and 3.94, 24.17: they print the same
    could = ["miettinen-nurminen", "farrington-manning", "agresti-caffo"]
    for limits, digits in [((3.9, 24.2), 1), ((0.039, 0.242), 3)]:
        got = ks.fingerprint(108, 195, 70, 170, printed=limits, digits=digits)
        assert got["method"].tolist() == could
    assert got["scale"].tolist() == ["proportion"] * 3


@pytest.mark.parametrize("case", KATZ)
def test_katz_2021_is_wald(case):
    *counts, printed = case
    got = ks.fingerprint(*counts, printed=printed)
    assert got["method"].tolist() == ["wald"]
    numbers = tuple(float(p) for p in printed)
    assert ks.fingerprint(*counts, printed=numbers, digits=2)["method"].tolist() == ["wald"]


def test_grunebaum_2018_is_woolf():
    got = ks.fingerprint(22, 40, 12, 40, printed=("1.14", "7.15"))
    assert got.filter(measure="odds ratio")["method"].tolist() == ["woolf"]


def test_an_interval_of_whole_percents_fits_many_methods_ketect_2022():
    got = ks.fingerprint("63%", 91, "46%", 95, printed=("2", "30"))
    assert {"wald", "newcombe", "agresti-caffo", "miettinen-nurminen"} <= set(got["method"])
    assert set(zip(got["x1"], got["x2"], strict=True)) == {(57, 44)}


def test_p_values_are_recognised():
    got = ks.fingerprint(57, 91, 44, 95, p_value=".026")
    assert got["method"].tolist() == ["chi-square", "chi-square-n-1"]
    assert "fisher" in ks.fingerprint(4, 8, 0, 7, p_value="0.077")["method"].tolist()
    nothing = ks.fingerprint(6, 90, 0, 91, p_value=".029")
    assert len(nothing) == 0


@pytest.mark.parametrize("percent", [1, 100])
@pytest.mark.parametrize("method", [m for m in two_by_two.DIFFERENCE if m not in UNTRIED | {"chan-zhang"}])
def test_every_method_recognises_itself(method, percent):
    row = ks.risk_difference(17, 61, 5, 52, method).to_frame().iloc[0]
    limits = (percent * row["conf_low"], percent * row["conf_high"])
    got = ks.fingerprint(17, 61, 5, 52, printed=limits, digits=4)
    assert method in got["method"].tolist()
    assert len(got) <= 2


@pytest.mark.parametrize("method", ["clopper-pearson", "mid-p", "wilson", "wilson-cc", "agresti-coull", "jeffreys"])
def test_one_proportion(method):
    row = ks.proportion(7, 33, method).to_frame().iloc[0]
    got = ks.fingerprint(7, 33, printed=(row["conf_low"], row["conf_high"]), digits=4)
    assert got["method"].tolist() == [method]


def test_a_half_may_be_rounded_either_way():
    # the Wilson limits of 0 of 5 at 50% are 0 and z^2 / (5 + z^2); printing rounds a half up or to even
    low, high = (ks.proportion(1, 8, "wald")[c][0] for c in ("conf_low", "conf_high"))
    for digits in (1, 2, 3, 6):
        text = tuple(f"{v:.{digits}f}" for v in (low, high))
        assert "wald" in ks.fingerprint(1, 8, printed=text)["method"].tolist()


def test_no_method_names_the_nearest():
    got = ks.fingerprint(108, 195, 70, 170, printed=("3.0", "24.2"))
    assert len(got) == 0
    near = got.meta["nearest"]
    assert near["measure"] == "risk difference"
    assert 5 < near["distance"] < 6  # newcombe-cc: 3.54, 24.43
    assert near["method"] in got.meta["sentence"]


def test_at_least_fifteen_methods_are_tried():
    assert len(ks.fingerprint(10, 50, 5, 50, printed=(0, 1)).meta["tried"]) >= 15


def test_counts_come_back_from_percentages():
    for n in (17, 91, 195, 230):
        for x in range(0, n + 1, 7):
            assert x in recover_counts(f"{100 * x / n:.1f}%", n)
    assert recover_counts("50%", 200) == [99, 100, 101]
    with pytest.raises(ks.errors.DataError, match="no whole number of 10"):
        ks.fingerprint("55.4%", 10, 2, 10, printed=(0, 1))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"x1": 5, "n1": 4, "x2": 1, "n2": 4, "printed": (0, 1)}, "5 of 4 is no count"),
        ({"x1": 1, "n1": 4, "x2": 1, "printed": (0, 1)}, "needs both"),
        ({"x1": 1, "n1": 4}, "give printed"),
        ({"x1": 1, "n1": 4, "printed": ("a", "b")}, "'a' is no number"),
    ],
)
def test_what_cannot_be_asked(arguments, message):
    with pytest.raises(ks.errors.DataError, match=message):
        ks.fingerprint(**arguments)


def test_small_groups_are_tried_by_exact_unconditional_methods_too():
    row = ks.risk_difference(3, 9, 1, 10, "chan-zhang").to_frame().iloc[0]
    got = ks.fingerprint(3, 9, 1, 10, printed=(row["conf_low"], row["conf_high"]), digits=4)
    assert "chan-zhang" in got["method"].tolist()
    assert np.isfinite(got["conf_low"]).all()
