"""The audit as a reviewer meets it: text as typed, columns under other names, every kind of finding printed."""

from __future__ import annotations

import json
import time
import warnings
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

import kapstats as ks
from kapstats.cli import main
from kapstats.evidence.pack import write_pack

BASE = {"study": "S", "estimate": "-4.0"}
#: one table for every kind of finding
KINDS = {
    "order": [BASE | {"conf_low": "-0.64", "conf_high": "-7.31"}],
    "sign": [BASE | {"conf_low": "1.0", "conf_high": "7.0"}],
    "outside": [BASE | {"conf_low": "-2.9", "conf_high": "-1.0"}],
    "symmetry": [BASE | {"conf_low": "-9.0", "conf_high": "-3.9", "scale": "identity"}],
    "std_error": [BASE | {"conf_low": "-7.3", "conf_high": "-0.7", "std_error": "0.5"}],
    "p_value": [BASE | {"conf_low": "-7.31", "conf_high": "-0.69", "p_value": ".20"}],
    "statistic": [BASE | {"std_error": "1.7", "statistic": "-9.0"}],
    "percent": [{"study": "S", "events": "46", "n": "83", "percent": "63.0"}],
    "denominator": [
        {"study": "S", "term": "Nausea", "arm": "A", "events": "20", "n": "40", "percent": "25.0%"},
        {"study": "S", "term": "Nausea", "arm": "B", "events": "30", "n": "80", "percent": "37.5%"},
    ],
    "count": [{"study": "S", "events": "46", "n": "40"}],
    "range": [{"study": "S", "mean": "5.19", "sd": "1.0", "n": "28", "minimum": "0", "maximum": "4"}],
    "grim": [{"study": "S", "mean": "5.19", "sd": "1.0", "n": "28", "integer": "1"}],
    "grimmer": [{"study": "S", "mean": "2.50", "sd": "0.10", "n": "4", "integer": "1"}],
    "p_counts": [
        {"study": "S", "term": "Nausea", "arm": "A", "events": "20", "n": "40", "p_value": "<0.001"},
        {"study": "S", "term": "Nausea", "arm": "B", "events": "19", "n": "40", "p_value": ""},
    ],
    "duplicate": [{"study": "S", "term": "Nausea", "arm": "A", "events": "1", "n": "4"}] * 2,
    "missing": [
        {"study": "S", "term": t, "arm": a, "events": "1", "n": "9"}
        for t in "abcd" for a in "XY" if (t, a) != ("d", "Y")
    ],
    "total": [
        {"study": "S", "term": "Any adverse event", "events": "3", "n": "9"},
        {"study": "S", "term": "Nausea", "events": "5", "n": "9"},
    ],
    "unreadable": [{"study": "S", "mean": "<b>", "sd": "1.0", "n": "28"}],
}  # fmt: skip


@pytest.fixture(autouse=True)
def _quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ks.errors.KapstatsWarning)
        yield


def as_numbers(rows):
    """The same lines with numbers where the text is one."""

    def number(text):
        try:
            return float(text)
        except ValueError:
            return text

    return [{k: number(v) for k, v in row.items()} for row in rows]


@pytest.mark.parametrize("typed", [list, as_numbers], ids=["text", "numbers"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_finding_prints_in_every_format(kind, typed, tmp_path):
    frame = pd.DataFrame(typed(KINDS[kind]))
    found = ks.audit(frame)
    assert kind in list(found["check"])
    for text in (str(found), repr(found), found.to_html(), found.to_markdown(), found.to_latex()):
        assert kind in text.replace(r"\_", "_")
    found.to_rtf(tmp_path / "a.rtf")
    assert len(found.to_ard()) > 0
    assert write_pack(tmp_path / "p.html", audit=found).stat().st_size > 0


@pytest.mark.parametrize("kind", KINDS)
def test_the_command_line_prints_every_kind(kind, tmp_path, capsys):
    source = tmp_path / "c.csv"
    pd.DataFrame(KINDS[kind]).to_csv(source, index=False)
    assert main(["audit", str(source)]) == 1
    assert kind in capsys.readouterr().out
    assert main(["audit", str(source), "--json"]) == 1
    assert kind in [row["check"] for row in json.loads(capsys.readouterr().out)]
    for name in ("f.html", "f.csv"):
        assert main(["audit", str(source), "--out", str(tmp_path / name)]) == 1
        assert kind in (tmp_path / name).read_text(encoding="utf-8")
    assert main(["pack", str(source), "--out", str(tmp_path / "pack.html")]) == 1
    assert kind in (tmp_path / "pack.html").read_text(encoding="utf-8")


def test_printed_digits_are_shown_as_they_were_typed():
    shown = str(ks.audit([BASE | {"conf_low": "1.0", "conf_high": "7.00"}] and pd.DataFrame(KINDS["sign"])))
    assert "-4.0  (1.0, 7.0)" in shown
    numbers = pd.DataFrame([{"study": "S", "estimate": -4.0512, "conf_low": 1.0, "conf_high": 7.25}])
    assert "-4.0512  (1, 7.25)" in str(ks.audit(numbers))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ({"estimate": "-4.0", "ci": "-7.31 to 0.64", "p": ".9"}, ["ci (did you mean conf_low and conf_high?)",
                                                                 "p (did you mean p_value?)"]),
        ({"events": "4", "N": "9", "pct": "44"}, ["N (did you mean n?)", "pct (did you mean percent?)"]),
        ({"Mean": "4.1", "sd": "2", "n": "9"}, ["Mean (did you mean mean?)"]),
        ({"estimate": "4.1", "p_val": "0.2", "colour": "red"}, ["p_val (did you mean p_value?)", "colour"]),
        ({"estimate": "4.1", "dose": "0.5"}, ["dose"]),
    ],
)  # fmt: skip
def test_columns_that_are_not_judged_are_named(line, said, tmp_path, capsys):
    frame = pd.DataFrame([{"study": "S", **line}])
    with pytest.warns(ks.errors.KapstatsWarning, match="not judged") as caught:
        found = ks.audit(frame)
    assert set(found.meta["not_judged"]) == {text.split(" ")[0] for text in said}
    for text in said:
        assert text in found.meta["sentence"]
        if text != "colour":  # text that nobody takes for a number
            assert text in str(caught[0].message)
    source = tmp_path / "c.csv"
    frame.to_csv(source, index=False)
    main(["audit", str(source)])
    assert said[0] in capsys.readouterr().out


def test_columns_that_say_what_a_line_is_about_are_no_doubt():
    frame = pd.DataFrame(
        [{"study": "S", "outcome": "MADRS", "page": "7", "estimate": "1.0", "conf_low": "0.1", "conf_high": "1.9"}]
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = ks.audit(frame)
    assert found.meta["judged"] == ("estimate", "conf_low", "conf_high")
    assert "columns judged: estimate, conf_low, conf_high." in found.meta["sentence"]


def test_no_column_to_judge_names_the_near_ones():
    with pytest.raises(ks.errors.DataError, match="mean by 'Mean', sd by 'SD'"):
        ks.audit(pd.DataFrame([{"Mean": 1.0, "SD": 2.0}]))


@pytest.mark.parametrize(
    "cell", ["<b>", "see text", "about .04", "12.3.4", [1.0], {"a": 1}, pd.Timestamp("2024-01-01"), b"1"]
)
def test_a_number_that_cannot_be_read_is_a_finding(cell):
    found = ks.audit(pd.DataFrame({"study": ["S"], "mean": pd.Series([cell], dtype=object), "n": [20]}))
    assert "unreadable" in list(found["check"])
    assert str(found)


@pytest.mark.parametrize("cell", ["", "NR", "-", None, np.nan, pd.NA, "n/a", "—"])
def test_a_number_that_was_not_printed_is_none(cell):
    found = ks.audit(pd.DataFrame({"study": ["S"], "mean": pd.Series([cell], dtype=object), "n": [20]}))
    assert len(found) == 0


def test_a_group_of_nobody_has_no_mean():
    assert list(ks.audit(pd.DataFrame({"mean": ["5.1"], "n": ["0"]}))["check"]) == ["count"]


@pytest.mark.parametrize(
    ("events", "n", "percent"),
    [("1,204", "2,408", "50.0"), ("30", "240", "12,5"), (Decimal(30), Decimal(240), Decimal("12.5"))],
)
def test_thousands_commas_and_decimals_are_read_as_printed(events, n, percent):
    assert len(ks.audit(pd.DataFrame({"events": [events], "n": [n], "percent": [percent]}))) == 0


def test_p_values_with_an_exponent_are_read():
    line = {"estimate": "5.0", "std_error": "1.0", "p_value": "5.7e-07"}  # 2 (1 - Phi(5))
    assert len(ks.audit(pd.DataFrame([line]))) == 0
    assert list(ks.audit(pd.DataFrame([line | {"p_value": "5.7e-02"}]))["check"]) == ["p_value"]


def test_ten_times_the_lines_take_about_ten_times_as_long():
    def seconds(k):
        rng = np.random.default_rng(1)
        n = rng.integers(50, 3000, k)
        x = (n * rng.random(k)).astype(int)
        frame = pd.DataFrame({"study": "S", "arm": rng.choice(list("AB"), k), "term": "any", "events": x, "n": n})
        frame = frame.assign(percent=[f"{v:.1f}" for v in 100 * x / n * rng.choice([1, 1.1], k)]).astype(str)
        start = time.process_time()
        ks.audit(frame)
        return time.process_time() - start

    seconds(200)
    assert seconds(4000) < 40 * seconds(400)  # pairs of lines would take 100 times as long


def test_a_file_of_claims_keeps_its_printed_digits(tmp_path):
    """30 of 231 is 12.99: "13.0" can be right, "13.00" cannot; read as numbers the two are one."""
    lines = "study,events,n,percent\nA,30,231,13.0\nB,30,231,13.00\n"
    path = tmp_path / "claims.csv"
    path.write_text(lines)
    found = ks.audit(path)
    assert found.to_frame()["study"].tolist() == ["B"]
    as_text = pd.DataFrame({"study": ["A", "B"], "events": ["30"] * 2, "n": ["231"] * 2, "percent": ["13.0", "13.00"]})
    pd.testing.assert_frame_equal(found.to_frame(), ks.audit(as_text).to_frame())
    with pytest.raises(ks.errors.DataError, match="no such file"):
        ks.audit(tmp_path / "absent.csv")
