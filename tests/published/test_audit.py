"""The audit: known print errors found, consistent lines left alone, planted errors of each kind recalled."""

import math

import numpy as np
import pandas as pd
import pytest

import kapstats as ks
from kapstats.evidence.checks.counts import p_values
from kapstats.evidence.checks.moments import grimmer, possible_sums
from kapstats.evidence.printed import parse
from tests.published import audit_study, claims


def found(**columns):
    return ks.audit(pd.DataFrame(columns))


def test_denominators_that_belong_to_nobody_abbar_2022():
    got = found(study="abbar2022", arm=["ketamine", "placebo"], events=[46, 25], n=[83, 73], percent=["63.0", "31.6"])
    assert got["check"].tolist() == ["denominator", "percent"]  # 46 of 73 is 63.0%; 25 of neither is 31.6%
    np.testing.assert_allclose(got["implied"], [73, 100 * 25 / 73])
    assert set(got["severity"]) == {"error"}


def test_exchanged_denominators_are_called_that():
    got = found(study="s", arm=["a", "b"], term="x", events=[46, 25], n=[79, 73], percent=["63.0", "31.6"])
    assert got["check"].tolist() == ["denominator", "denominator"]
    assert got["implied"].tolist() == [73.0, 79.0]


def test_a_p_value_that_fits_another_count_ekstrand_2022():
    got = found(
        study="ekstrand2022",
        term="Tachycardia",
        arm=["ECT", "ketamine"],
        events=[6, 0],
        n=[90, 91],
        p_value=[".029", ""],
    )
    assert got["check"].tolist() == ["p_counts"]
    assert abs(got["implied"][0] - 0.0139) < 5e-5
    assert abs(p_values(5, 90, 0, 91)["fisher"] - 0.029) < 5e-4


def test_a_percentage_of_another_count_fedgchin_2019():
    assert found(study="fedgchin2019", term="Hypoesthesia", events=[30], n=[231], percent=["13.3%"])[
        "check"
    ].tolist() == ["percent"]


def test_a_term_that_stands_twice_ionescu_2021():
    got = found(study="ionescu2021", term="Constipation", arm="esketamine", events=[8, 13], n=114)
    assert got["check"].tolist() == ["duplicate"]


def test_limits_of_the_other_sign_glue_2024():
    got = found(study="glue2024", estimate=["-6.1"], conf_low=["1.0"], conf_high=["11.16"])
    assert got["check"].tolist() == ["sign"]


def test_a_percentage_one_point_off_yermus_2024():
    got = found(study="yermus2024", term="lost", events=[1806 - 346], n=[1806], percent=["82"])
    assert got["check"].tolist() == ["percent"]
    assert abs(got["implied"][0] - 80.84) < 0.01


def test_the_shipped_tables_of_counts_have_no_finding_but_are_judged():
    aes = ks.evidence.table("adverse_events").rename(columns={"pct": "percent"})
    assert aes["percent"].notna().sum() > 300
    assert len(ks.audit(aes[["study", "arm", "term", "period", "events", "n", "percent"]])) == 0
    responders = ks.evidence.table("response_binary").rename(columns={"pct": "percent"})
    assert len(ks.audit(responders[["study", "outcome", "visit", "arm", "events", "n", "percent"]])) == 0


def test_no_shipped_estimate_contradicts_itself_but_for_one_interval_of_another_kind():
    names = {"se": "std_error", "ci_lo": "conf_low", "ci_hi": "conf_high", "ci_level": "level", "p": "p_value"}
    contrasts = ks.evidence.table("contrasts").rename(columns=names)
    assert contrasts["conf_low"].notna().sum() > 30
    ours = contrasts[~(contrasts["study"].eq("abbar2022") & contrasts["visit"].str.contains("stratum"))]
    assert set(ks.audit(ours)["printed"]) == {"estimate: 0.75-0.86", "p_value: <.001 for non-inferiority, margin -10"}
    assert set(ks.audit(ours)["check"]) == {"unreadable"}  # texts of two numbers, which say nothing of each other
    rest = ks.audit(contrasts).filter(check=["symmetry"])  # limits of a stratum are far from those of a Wald interval
    assert len(ks.audit(contrasts)) == len(rest) + 2
    assert len(rest) <= 1
    means = ks.evidence.table("response_continuous").rename(columns=names)
    assert len(ks.audit(means)) == 0


@pytest.mark.parametrize("make", [claims.counts, claims.moments, claims.inference])
def test_consistent_lines_raise_nothing(make):
    rng = claims.generator(7)
    lines = pd.DataFrame([row for i in range(150) for row in make(rng, i)])
    assert len(ks.audit(lines)) == 0


SOURCE = {"mean": claims.moments, "sd": claims.moments, "limit": claims.inference, "sign": claims.inference}
SOURCE |= {"order": claims.inference, "p_value": claims.inference}
#: GRIM and GRIMMER cannot see what another sample could have printed; the others miss only chance agreement
RECALL = {"mean": 0.85, "sd": 0.5}


@pytest.mark.parametrize("kind", claims.KINDS)
def test_planted_errors_are_found(kind):
    hits = tried = 0
    for i in range(40):
        make = SOURCE.get(kind, claims.counts)
        rows = claims.planted(kind, claims.generator(100 + i), i)
        if rows == make(claims.generator(100 + i), i):
            continue
        tried += 1
        hits += len(ks.audit(pd.DataFrame(rows))) > 0
    assert tried > 35
    assert hits / tried >= RECALL.get(kind, 0.95)


@pytest.mark.parametrize("seed", range(5))
def test_grim_and_grimmer_never_refuse_a_real_sample(seed):
    rng = np.random.default_rng(seed)
    for _ in range(200):
        n, items = int(rng.integers(2, 60)), int(rng.integers(1, 4))
        scores = rng.integers(0, 8, (n, items)).mean(axis=1)
        mean, sd = (parse(f"{v:.2f}") for v in (scores.mean(), scores.std(ddof=1)))
        sums = possible_sums(mean, n, items)
        assert round(scores.sum() * items) in sums
        assert grimmer(sums, sd, n, items) is None


def test_grim_by_hand():
    # 28 whole numbers cannot average 5.19: 145/28 = 5.178..., 146/28 = 5.214...
    got = found(mean=["5.19"], sd=["1.3"], n=[28], integer=[1])
    assert got["check"].tolist() == ["grim"]  # and GRIMMER is not asked
    assert got["implied"].tolist() == [145 / 28]
    assert len(found(mean=["5.18"], n=[28], integer=[True])) == 0
    assert len(found(mean=["5.19"], n=[28], integer=[False])) == 0


def test_grimmer_by_hand():
    # two whole numbers with mean 1.00 have SD sqrt(2) * k: 0.00, 1.41, 2.83
    assert len(found(mean=["1.00"], sd=["1.41"], n=[2], integer=[1])) == 0
    got = found(mean=["1.00"], sd=["1.30"], n=[2], integer=[1])
    assert got["check"].tolist() == ["grimmer"]
    assert abs(got["implied"][0] - math.sqrt(2)) < 1e-12


@pytest.mark.parametrize(
    ("line", "check"),
    [
        ({"estimate": "2.0", "conf_low": "3.0", "conf_high": "1.0"}, "order"),
        ({"estimate": "5.0", "conf_low": "1.0", "conf_high": "3.0"}, "outside"),
        ({"estimate": "2.5", "conf_low": "1.0", "conf_high": "3.0", "scale": "identity"}, "symmetry"),
        ({"estimate": "2.0", "std_error": "1.5", "conf_low": "1.0", "conf_high": "3.0"}, "std_error"),
        ({"estimate": "2.0", "std_error": "0.51", "statistic": "2.1"}, "statistic"),
        ({"estimate": "2.0", "std_error": "0.51", "p_value": "0.04"}, "p_value"),
        ({"statistic": "2.10", "df": 28, "p_value": "0.01"}, "p_value"),
        ({"statistic": "4.10", "df": 50, "df1": 2, "test": "F", "p_value": "0.10"}, "p_value"),
        ({"events": 12, "n": 10}, "count"),
        ({"estimate": "1.0", "std_error": "-0.2"}, "order"),
        ({"statistic": "2.1", "df": 20, "p_value": "1.2"}, "p_value"),
    ],
)
def test_each_kind_of_contradiction(line, check):
    assert found(**{k: [v] for k, v in line.items()})["check"].tolist() == [check]


@pytest.mark.parametrize(
    "line",
    [
        {"statistic": "2.10", "df": 28, "p_value": "0.045"},
        {"statistic": "5.02", "df": 1, "p_value": "0.025", "test": "chi2"},
        {"statistic": "4.10", "df": 50, "df1": 2, "test": "F", "p_value": "0.022"},
        {"estimate": "0.49", "conf_low": "0.29", "conf_high": "0.84", "p_value": ".009", "scale": "HR"},
        {"estimate": "-4.0", "std_error": "1.69", "conf_low": "-7.31", "conf_high": "-0.64", "p_value": ".020"},
        {"estimate": "-4.2", "std_error": "2.09", "p_value": "0.022 (one-sided)"},
        {"estimate": "2.85", "conf_low": "1.14", "conf_high": "7.15"},
        {
            "estimate": "-1.0",
            "std_error": "2.25",
            "conf_low": "-5.77",
            "conf_high": "3.70",
            "level": 90,
            "method": "Dunnett",
        },
        {"events": 1, "n": 8, "percent": "12.5"},
        {"events": 1, "n": 16, "percent": "6.3"},
        {"events": 1, "n": 16, "percent": "6.2"},
        {"events": 46, "n": 73, "percent": 63.0},
    ],
)
def test_consistent_lines_from_print(line):
    assert len(found(**{k: [v] for k, v in line.items()})) == 0


def test_what_is_not_found_among_means_could_be_true_and_nothing_else_is_blamed():
    result = audit_study.study(6, seed=5)
    assert (result["tables"] >= 5).all()
    assert (result["missed"] == 0).all()  # a sample of whole numbers prints every mean and SD that passes
    assert (result["alarms"] == 0).all()
    sure = result[~result["planted"].isin(["mean", "sd", "p_value", "limit", "p_counts"])]
    assert (sure["found"] == sure["tables"]).all()


def test_a_witness_prints_what_it_should():
    x = audit_study.sample("3.13", "1.81", 15)
    assert (f"{x.mean():.2f}", f"{x.std(ddof=1):.2f}", len(x)) == ("3.13", "1.81", 15)
    assert audit_study.sample("5.19", "1.30", 28) is None


def test_a_line_that_is_missing():
    terms = ["Nausea", "Dizziness", "Headache", "Vertigo"]
    whole = pd.DataFrame({"term": np.repeat(terms, 2), "arm": ["drug", "placebo"] * 4, "events": 3, "n": 20})
    assert len(ks.audit(whole)) == 0
    got = ks.audit(whole.drop(index=7))
    assert got["check"].tolist() == ["missing"]
    assert got["printed"].tolist() == ["Vertigo: no line for placebo"]
    assert len(ks.audit(whole.iloc[[0, 1, 2, 4]])) == 0  # a table of one arm is no table with gaps


@pytest.mark.parametrize(
    ("mean", "sd", "checks"), [("7.2", "1.0", ["range"]), ("3.0", "3.4", ["range"]), ("3.0", "3.1", [])]
)
def test_scores_stay_in_their_range(mean, sd, checks):
    assert found(mean=[mean], sd=[sd], n=[20], minimum=[0], maximum=[6])["check"].tolist() == checks


def test_visits_and_instruments_tell_lines_apart():
    lines = {
        "study": "s",
        "arm": "a",
        "visit": [1.0, 2.0, 2.0],
        "scale": ["MADRS", "MADRS", "CGI"],
        "events": 1,
        "n": 9,
    }
    assert len(found(**lines)) == 0
    assert found(**{**lines, "scale": "MADRS"})["check"].tolist() == ["duplicate"]


def test_limits_of_other_methods_are_no_contradiction_unless_the_scale_is_stated():
    limits = {"estimate": ["14.2"], "conf_low": ["3.9"], "conf_high": ["24.2"]}
    assert len(found(**limits)) == 0
    assert found(**limits, scale="identity")["check"].tolist() == ["symmetry"]


def test_any_event_is_at_least_the_commonest():
    got = found(study="s", arm="a", term=["Any adverse event", "Nausea"], events=[10, 12], n=20)
    assert got["check"].tolist() == ["total"]


def test_the_columns_of_the_claim_come_back():
    got = found(study="s", page=[12], events=[1], n=[3], percent=["30"])
    assert got.columns[:2] == ["study", "page"]
    assert got.columns[-5:] == ["check", "printed", "implied", "distance", "severity"]
    assert got["page"].tolist() == [12]
    assert round(got["distance"][0], 2) == 3.33
    with pytest.raises(ks.errors.DataError, match="no column to judge"):
        found(study="s", value=[1])
