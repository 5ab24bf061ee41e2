"""Pooling as a reviewer meets it: intervals narrower than they can be, studies that cannot be used, other names."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest

import kapstats as ks
from kapstats.evidence.small_studies import leave_one_out, trim_and_fill

ASPIRE = pd.DataFrame({"study": ["ASPIRE I", "ASPIRE II"], "estimate": [-3.8, -3.9], "std_error": [1.39, 1.39]})
SAME = pd.DataFrame({"study": list("ABC"), "estimate": [0.1] * 3, "std_error": [0.2, 0.3, 0.4], "dose": [1.0, 2, 3]})
APART = pd.DataFrame(
    {"study": list("ABCD"), "estimate": [0.1, 2.0, -1.5, 3.0], "std_error": [0.2] * 4, "dose": [1, 2, 3, 5.0]}
)
COUNTS = pd.DataFrame(
    {
        "study": list("ABCDE"),
        "x1": [12, 9, 20, 0, 2.5],
        "n1": [40, 35, 70, 0, 10],
        "x2": [5, 6, 9, 0, 1],
        "n2": [41, 33, 72, 10, 10],
    }
)


def told(call):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = call()
    return result, [str(w.message) for w in caught]


def test_hartung_knapp_below_inverse_variance_keeps_the_default_and_names_the_guard():
    found, said = told(lambda: ks.meta_analysis(ASPIRE))
    # by hand: mean -3.85, Q = 2 * (.05 / 1.39)^2, se^2 = Q / 1 * 1.39^2 / 2 = .05^2; inverse variance 1.39 / sqrt 2
    np.testing.assert_allclose(found["std_error"][0], 0.05, rtol=1e-9)
    assert [s for s in said if "hartung-knapp-adhoc" in s and "0.051 times that of inverse variance" in s]
    assert any("hartung-knapp-adhoc" in s for s in found.warnings)
    guarded, said = told(lambda: ks.meta_analysis(ASPIRE, ci="hartung-knapp-adhoc"))
    np.testing.assert_allclose(guarded["std_error"][0], 1.39 / np.sqrt(2), rtol=1e-9)
    assert not [s for s in said if "Hartung-Knapp:" in s]


def test_studies_that_agree_exactly_have_no_hartung_knapp_interval():
    found, said = told(lambda: ks.meta_analysis(SAME, "OR"))
    first = found.to_frame().iloc[0]
    assert first["estimate"] == pytest.approx(0.1)
    assert first[["std_error", "p_value", "conf_low", "conf_high", "pred_low", "pred_high"]].isna().all()
    assert [s for s in said if "agree exactly" in s and "hartung-knapp-adhoc" in s]
    assert "NE" in str(found)
    line, said = told(lambda: ks.meta_regression(SAME, "~ dose"))
    assert line["std_error"].isna().all()
    assert np.isnan(line.meta["qm"])
    assert [s for s in said if "agree exactly" in s]


def test_studies_that_differ_are_not_warned_about():
    for call in (lambda: ks.meta_analysis(APART), lambda: ks.meta_regression(APART, "~ dose", model="common")):
        _, said = told(call)
        assert not [s for s in said if "Hartung-Knapp:" in s]


@pytest.mark.parametrize("seed", range(40))
def test_the_warning_is_there_exactly_when_the_standard_error_is_smaller(seed):
    rng = np.random.default_rng(seed)
    k = int(rng.integers(2, 7))
    effects = rng.normal(scale=rng.choice([0.1, 0.5, 2]), size=k)
    frame = pd.DataFrame({"estimate": effects, "std_error": rng.uniform(0.1, 1, k), "x": rng.normal(size=k)})
    calls = [lambda ci: ks.meta_analysis(frame, ci=ci)]
    calls += [lambda ci: ks.meta_regression(frame, "~ x", ci=ci)] if k > 2 else []
    for call in calls:
        found, said = told(lambda call=call: call("hartung-knapp"))
        normal, _ = told(lambda call=call: call("normal"))
        guarded, silent = told(lambda call=call: call("hartung-knapp-adhoc"))
        smaller = found["std_error"][0] < normal["std_error"][0] * (1 - 1e-9)
        assert bool([s for s in said if "Hartung-Knapp:" in s]) == smaller
        assert not [s for s in silent if "Hartung-Knapp:" in s]
        assert guarded["std_error"][0] >= normal["std_error"][0] * (1 - 1e-12)


def test_leaving_one_out_says_which_rows_are_narrow():
    frame = pd.DataFrame({"study": list("ABC"), "estimate": [-3.8, -3.9, 4.0], "std_error": [1.39, 1.39, 1.0]})
    found, said = told(lambda: leave_one_out(frame))
    assert [s for s in said if "without C" in s and "Hartung-Knapp" in s]
    assert any("without C" in s for s in found.warnings)


def test_studies_that_cannot_be_used_are_left_out_by_name_and_the_others_pooled():
    found, said = told(lambda: ks.meta_analysis(COUNTS, "OR"))
    assert found.meta["dropped"] == ("D", "E")
    assert [s for s in said if "an arm without subjects" in s and "D" in s]
    assert [s for s in said if "not whole numbers" in s and "E" in s]
    whole, _ = told(lambda: ks.meta_analysis(COUNTS.iloc[:3], "OR"))
    pd.testing.assert_frame_equal(found.to_frame(), whole.to_frame())
    with pytest.raises(ks.errors.DataError, match=r"impossible counts \(row 1\)"):
        ks.meta_analysis(COUNTS.assign(x1=[41, 9, 20, 0, 2]), "OR")


def test_other_faults_of_single_studies_are_left_out_too():
    frame = ASPIRE.assign(std_error=[1.39, 0.0])
    found, said = told(lambda: ks.meta_analysis(frame))
    assert found.meta["dropped"] == ("ASPIRE II",)
    assert [s for s in said if "standard error not above 0" in s]
    means = pd.DataFrame(
        {"mean1": [1, 2.0], "sd1": [1, 0.0], "n1": [9, 9], "mean2": [0, 0], "sd2": [1, 1], "n2": [9, 9]}
    )
    assert told(lambda: ks.meta_analysis(means))[0].meta["dropped"] == ("2",)
    arms = pd.DataFrame({"study": list("AABB"), "treatment": list("XYXY"), "x": [3, 4, 2.5, 1], "n": [20] * 4})
    found, said = told(lambda: ks.network_meta_analysis(arms))
    assert found.meta["k"] == 1
    assert [s for s in said if "B (counts that are not whole numbers)" in s]
    arms = arms.assign(x=[3, 4, 0, 1], n=[20, 20, 0, 20])
    assert [s for s in told(lambda: ks.network_meta_analysis(arms))[1] if "B (an arm without subjects)" in s]


def test_a_study_that_stands_twice_is_named():
    frame = pd.DataFrame({"study": ["Popova", "popova ", "Daly"], "estimate": [1.0, 2, 3], "std_error": [1.0] * 3})
    _, said = told(lambda: ks.meta_analysis(frame))
    assert [s for s in said if "more than once" in s and "Popova" in s]


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        (["study", "events1", "n1", "x2", "n2"], "x1 by 'events1'"),
        (["study", "yi", "std_error"], "estimate by 'yi'"),
        (["study", "Estimate", "SE"], "estimate by 'Estimate', std_error by 'SE'"),
    ],
)
def test_columns_under_other_names_are_offered(columns, said):
    with pytest.raises(ks.errors.DataError, match=said):
        ks.meta_analysis(pd.DataFrame([[1.0] * len(columns)], columns=columns))


def test_by_is_refused_with_the_way_to_go():
    with pytest.raises(ks.errors.FormulaError, match=r"meta_regression\(studies, '~ grp'\)"):
        ks.meta_analysis(ASPIRE.assign(grp=["a", "b"]), by="grp")


LEVEL = {
    "meta_analysis": lambda level: ks.meta_analysis(ASPIRE, level=level),
    "meta_regression": lambda level: ks.meta_regression(APART, "~ dose", level=level),
    "network_meta_analysis": lambda level: ks.network_meta_analysis(
        pd.DataFrame({"study": list("AA"), "treatment": list("XY"), "x": [3, 4], "n": [20] * 2}), level=level),
    "trim_and_fill": lambda level: trim_and_fill(APART, level=level),
    "fingerprint": lambda level: ks.fingerprint(6, 10, 4, 10, ("1", "2"), level=level),
    "leave_one_out": lambda level: leave_one_out(APART, level=level),
}  # fmt: skip


@pytest.mark.parametrize("level", [0, 1, 95, -0.5, float("nan"), "95%", None])
@pytest.mark.parametrize("verb", LEVEL)
def test_a_level_that_is_none_is_refused(verb, level):
    with pytest.raises(ks.errors.KapstatsError, match="level"):
        LEVEL[verb](level)
