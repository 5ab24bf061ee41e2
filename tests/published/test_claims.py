"""The page of claims is the shipped table, and its figures are in the shipped evidence."""

from pathlib import Path

import pandas as pd
import pytest

import kapstats as ks
from kapstats.evidence.claims import figures, page

PAGE = Path(__file__).resolve().parents[2] / "docs" / "claims.md"
CLAIMS = ks.evidence.table("claims").fillna("").to_dict("records")
SEEN = ("yes", "secondary")


def values(name, study):
    """Every number in the rows of a study that were seen."""
    rows = ks.evidence.table(name)
    rows = rows[(rows["study"] == study) & rows["checked"].str.startswith(SEEN)]
    numbers = rows.drop(columns=["study", "source", "note", "checked"]).apply(pd.to_numeric, errors="coerce")
    return set(numbers.to_numpy().ravel())


def test_the_page_is_made_from_the_table():
    assert PAGE.read_text(encoding="utf-8") == page(), "run python -m kapstats.evidence.claims > docs/claims.md"


def test_every_claim_is_there_once():
    assert [row["id"] for row in CLAIMS] == [f"S{i:02d}" for i in range(1, 22)]
    assert all(row["estimand"] and row["verdict"] and row["published"] for row in CLAIMS)
    assert {row["id"] for row in CLAIMS if not row["call"]} == {"S07"}
    known = {*ks.datasets.list(), "none", "printed effects (no trial is simulated)"}
    assert {row["dataset"] for row in CLAIMS} <= known
    assert all(f'load("{row["dataset"]}")' in row["call"] for row in CLAIMS if row["dataset"].startswith("kap-"))


@pytest.mark.parametrize("row", CLAIMS, ids=lambda row: row["id"])
def test_every_figure_was_seen_and_is_on_the_page(row):
    assert row["checked"] in (*SEEN, "none collected")
    assert bool(figures(row)) == (row["checked"] != "none collected")
    for name, study, value in figures(row):
        assert float(value) in values(name, study), (name, study, value)
        assert value in row["published"] or f"{float(value):g}" in row["published"], value


def test_a_figure_that_is_not_there_would_be_seen():
    assert -4.01 not in values("contrasts", "popova2019")
