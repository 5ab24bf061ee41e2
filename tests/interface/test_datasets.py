"""Trials that come with kapstats."""

import pytest

import kapstats as ks


def test_every_listed_trial_loads_with_subjects_and_arms():
    for name in ks.datasets.list():
        trial = ks.datasets.load(name)
        assert trial.name == name
        assert trial.n_subjects > 20
        assert len(trial.arms) > (0 if "cohort" in name else 1)
        assert trial.adsl["USUBJID"].is_unique
        if name != "cdisc-pilot":
            assert trial.truth


def test_the_cdisc_pilot_has_its_published_size():
    trial = ks.datasets.load("cdisc-pilot")
    assert trial.arms == ["Placebo", "Xanomeline Low Dose", "Xanomeline High Dose"]
    assert trial.adsl["TRT01P"].value_counts()[trial.arms].tolist() == [86, 84, 84]
    assert {k: f.shape[0] for k, f in trial.datasets.items()} == {
        "adsl": 254,
        "adqs": 12463,
        "adtte": 254,
        "adae": 1191,
        "adadas": 12463,
    }
    assert trial.adqs.equals(trial.adadas)
    assert trial.labels["adsl"]["AGE"] == "Age"


def test_other_sets_of_the_pilot():
    trial = ks.datasets.load("cdisc-pilot", ["adsl", "adcibc"])
    assert len(trial.adcibc) == 730
    with pytest.raises(ks.errors.DataError, match="Did you mean 'adcibc'"):
        ks.datasets.load("cdisc-pilot", ["adcibs"])


def test_a_wrong_name_is_told():
    with pytest.raises(ks.errors.DataError, match="Did you mean 'cdisc-pilot'"):
        ks.datasets.load("cdisc-pilots")
