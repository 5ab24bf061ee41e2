"""Numbers as journals print them; a text that holds two numbers is not read as its first."""

import pandas as pd
import pytest

import kapstats as ks

LINE = {"term": "madrs", "estimate": "-4.0", "conf_low": "-8.31", "conf_high": "0.31"}  # P about 0.07


def checks(**cells):
    return ks.audit(pd.DataFrame([cells]))["check"].tolist()


@pytest.mark.parametrize(
    "p", ["0.001", "0·001", "·001", "0,001", "P=0.001", "p < .001", "P<0·001", "0.001*", "<\u2009.001"]
)
def test_an_impossible_p_value_is_found_however_it_is_printed(p):
    assert checks(**LINE, p_value=p) == ["p_value"]


def test_minus_signs_and_middle_points_of_journals():
    cells = {k: v.replace("-", "\u2212").replace(".", "·") for k, v in LINE.items()}
    assert checks(**cells, p_value="0·07") == []
    assert checks(**cells, p_value="0·001") == ["p_value"]


@pytest.mark.parametrize("n", ["1204", "1,204", "1 204", "1\u00a0204", "1\u202f204", "1'204", "1’204"])
def test_thousands_are_grouped_in_many_ways(n):
    """7 of 1204 are 0.6%, not 5%: a number cut at its first sign would be 1 with 7 events."""
    assert checks(term="a", events="7", n=n, percent="0.6") == []
    assert checks(term="a", events="7", n=n, percent="5.0") == ["percent"]


@pytest.mark.parametrize("text", ["12/20", "3-5", "1.5 to 2.5", "12 20", "12:20", "0.03 or 0.04", "12.3.4", "1 20"])
def test_a_text_of_two_numbers_is_unreadable(text):
    assert "unreadable" in checks(term="a", estimate=text, conf_low="1", conf_high="30")


@pytest.mark.parametrize("text", ["2.0 (0.5)", "2.0 ± 0.5", "2.0 [1, 3]", "2.0%", "2.0 a", "2.0†"])
def test_what_stands_beside_a_number_does_not_hide_it(text):
    assert checks(term="a", estimate=text, conf_low="1.0", conf_high="3.0") == []
    assert "unreadable" not in checks(term="a", estimate=text, conf_low="5.0", conf_high="6.0")
