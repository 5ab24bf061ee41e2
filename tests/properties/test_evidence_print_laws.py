"""Laws of printing over random tables; ``KAPSTATS_CASES=5000`` for more of them."""

from __future__ import annotations

import os
import warnings

import numpy as np
import pandas as pd
import pytest

import kapstats as ks
from kapstats.table import interval, number

CASES = int(os.environ.get("KAPSTATS_CASES", "60"))
TEXTS = ["63.0", "-4.0", "<0.001", ".029", "1,204", "13,3", "NR", "", "0", "n/a", "5e-05", "p = .04", "<b>", "−3.2",
         "12%", "46 (55%)", ">.99", "0.04*", "1e999", "abc", "4", "28"]  # fmt: skip
OTHERS = [None, np.nan, 4, 28, 0.5, -1.25, True, pd.NA, np.inf, [1], pd.Timestamp("2024-01-01")]
COLUMNS = ["study", "arm", "term", "events", "n", "percent", "mean", "sd", "integer", "minimum", "maximum",
           "estimate", "std_error", "conf_low", "conf_high", "p_value", "statistic", "df", "scale", "level", "test",
           "p", "N", "ci"]  # fmt: skip


@pytest.fixture(autouse=True)
def _quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ks.errors.KapstatsWarning)
        yield


def claims(rng: np.random.Generator, pool: list) -> pd.DataFrame:
    """A table of claims with any cells in any columns."""
    names = [COLUMNS[i] for i in rng.permutation(len(COLUMNS))[: rng.integers(3, len(COLUMNS))]]
    rows = int(rng.integers(1, 7))
    words = {"study": list("ST"), "arm": list("AB"), "term": ["any", "x"], "scale": ["HR", "identity", "MADRS", ""],
             "test": ["F", "t", "chi2", ""], "level": ["95", "0.9", ""]}  # fmt: skip
    cells = {}
    for name in dict.fromkeys([*names, "estimate"]):
        choices = words.get(name, pool)
        cells[name] = pd.Series([choices[i] for i in rng.integers(0, len(choices), rows)], dtype=object)
    return pd.DataFrame(cells)


@pytest.mark.parametrize("pool", [TEXTS, [*TEXTS, *OTHERS]], ids=["text", "anything"])
def test_an_audit_of_anything_prints_in_every_format(pool):
    kinds = set()
    for seed in range(CASES):
        found = ks.audit(claims(np.random.default_rng(seed), pool))
        kinds |= set(found["check"])
        for text in (found.to_text(), repr(found), found.to_html(), found.to_markdown(), found.to_latex()):
            assert "columns judged" in text
        lines = found.table().rows
        assert len(lines) == len(found)
    assert {"order", "unreadable", "p_value"} <= kinds  # the cases do find something


def test_findings_do_not_depend_on_the_order_of_lines():
    for seed in range(CASES):
        rng = np.random.default_rng(seed)
        frame = claims(rng, TEXTS)
        order = rng.permutation(len(frame))
        here = ks.audit(frame)
        there = ks.audit(frame.iloc[order].reset_index(drop=True))
        own = {(i, c, p) for i, c, p in zip(here.meta["rows"], here["check"], here["printed"], strict=True)}
        moved = {(order[i], c, p) for i, c, p in zip(there.meta["rows"], there["check"], there["printed"], strict=True)}
        drop = ("duplicate", "missing", "p_counts")  # said at one of the lines they concern
        assert {f for f in own if f[1] not in drop} == {f for f in moved if f[1] not in drop}


def studies(rng: np.random.Generator) -> pd.DataFrame:
    k = int(rng.integers(1, 6))
    n1, n2 = rng.integers(1, 40, k), rng.integers(1, 40, k)
    return pd.DataFrame({"study": [f"S{i}" for i in range(k)], "x1": rng.binomial(n1, rng.random(k)), "n1": n1,
                         "x2": rng.binomial(n2, rng.random(k)), "n2": n2})  # fmt: skip


@pytest.mark.parametrize("measure", ["OR", "RR"])
def test_a_pooled_ratio_prints_as_exp_of_its_log_and_exchanged_arms_as_its_reciprocal(measure):
    exchanged = {"x1": "x2", "x2": "x1", "n1": "n2", "n2": "n1"}
    for seed in range(CASES):
        frame = studies(np.random.default_rng(seed))
        try:
            found = ks.meta_analysis(frame, measure)
        except ks.errors.DataError:
            continue  # nothing that holds information
        table, logs = found.table(), found.to_frame()
        words = {"OR": "Odds ratio", "RR": "Risk ratio"}[measure]
        shown = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
        assert [row[words] for row in shown] == [number(v) for v in np.exp(logs["estimate"])]
        limits = [interval(a, b) for a, b in zip(np.exp(logs["conf_low"]), np.exp(logs["conf_high"]), strict=True)]
        assert [row["95% CI"] for row in shown] == limits
        turned = ks.meta_analysis(frame.rename(columns=exchanged), measure).to_frame()
        np.testing.assert_allclose(np.exp(turned["estimate"]) * np.exp(logs["estimate"]), 1.0, rtol=1e-5)
        np.testing.assert_allclose(turned["conf_low"], -logs["conf_high"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("verb", ["risk_ratio", "odds_ratio", "rate_ratio"])
def test_ratios_of_counts_print_what_to_frame_has(verb):
    rng = np.random.default_rng(1)
    n = rng.integers(1, 30, (2, CASES))
    x = rng.binomial(n, 0.3)
    found = getattr(ks, verb)(x[0], n[0], x[1], n[1])
    table = found.table()
    at = table.columns.index(verb.replace("_", " ").capitalize())
    assert [row[at] for row in table.rows] == [number(v) for v in found["estimate"]]
