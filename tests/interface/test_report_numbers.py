"""The numbers on the page are those of the analysis results data: read back from the HTML, cell by cell."""

from __future__ import annotations

import re
from decimal import ROUND_HALF_UP, Decimal
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

import kapstats as ks
from kapstats.table import p_value


class Tables(HTMLParser):
    """caption -> rows of cells, of every table on the page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, list[list[str]]] = {}
        self.inside = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "caption":
            self.caption, self.inside = "", tag
        elif tag == "tr" and self.inside != "tfoot":
            self.found.setdefault(self.caption, []).append([])
        elif tag in ("th", "td") and self.inside != "tfoot":
            self.found[self.caption][-1].append("")
            self.inside = "cell"
        elif tag == "tfoot":
            self.inside = tag

    def handle_endtag(self, tag: str) -> None:
        if tag == "table" or (tag in ("caption", "th", "td") and self.inside != "tfoot"):
            self.inside = ""

    def handle_data(self, data: str) -> None:
        if self.inside == "caption":
            self.caption += data
        elif self.inside == "cell":
            self.found[self.caption][-1][-1] += data


def shown(value: float, digits: int) -> str:
    """`value` as the page prints it: half away from zero, nothing for what is missing."""
    if value != value:
        return "NE"
    text = str(Decimal(repr(float(value))).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP))
    return text.replace("-0.0", "0.0") if float(text) == 0 else text


def limits(row: pd.Series, digits: int) -> str:
    return f"({shown(row['conf_low'], digits)}, {shown(row['conf_high'], digits)})"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, list[list[str]]], pd.DataFrame]:
    out = tmp_path_factory.mktemp("numbers") / "out"
    ks.run(out=out)
    reader = Tables()
    reader.feed((out / "report.html").read_text(encoding="utf-8"))
    return reader.found, pd.read_csv(out / "results" / "ard.csv", dtype={"stat": float}, low_memory=False)


def wide(ard: pd.DataFrame, analysis: str, result: str, keys: list[str]) -> pd.DataFrame:
    """One row per `keys`, one column per statistic."""
    own = ard[(ard["analysis"] == analysis) & (ard["result"] == result)]
    return own.pivot_table(index=keys, columns="stat_name", values="stat", sort=False, dropna=False).dropna(how="all")


def test_scores(written: tuple[dict[str, list[list[str]]], pd.DataFrame]) -> None:
    tables, ard = written
    means = wide(ard, "madrs", "lsmeans", ["AVISIT", "TRT01P"])
    differences = wide(ard, "madrs", "differences", ["AVISIT", "contrast"])
    (head, *body), visit, compared = tables["Change in MADRS from baseline"], "", 0
    for cells in body:
        row = dict(zip(head[:3], cells, strict=False)) | {"limits": cells[3], "difference": cells[5], "of": cells[6]}
        if not any(cells[1:]):
            visit = cells[0]
            continue
        own = means.loc[(visit, cells[0])]
        assert row["LS mean (SE)"] == f"{shown(own['estimate'], 1)} ({shown(own['std_error'], 2)})"
        assert row["limits"] == limits(own, 1)
        if row["difference"]:
            other = differences.loc[(visit, f"{cells[0]} - Placebo")]
            assert (row["difference"], row["of"], cells[7]) == (
                shown(other["estimate"], 1), limits(other, 1), p_value(other["p_value"]),
            )  # fmt: skip
            compared += 1
    assert compared == 25


def test_relapse(written: tuple[dict[str, list[list[str]]], pd.DataFrame]) -> None:
    tables, ard = written
    ratios = wide(ard, "relapse", "hazard-ratios", ["contrast"])
    _, *body = tables["Hazard ratios of relapse"]
    assert len(body) == len(ratios) == 5
    for (label, estimate, between, p, *_), (contrast, own) in zip(body, ratios.iterrows(), strict=True):
        assert (label, estimate, between, p) == (
            contrast, shown(own["estimate"], 2), limits(own, 2), p_value(own["p_value"]),
        )  # fmt: skip


def test_adverse_events(written: tuple[dict[str, list[list[str]]], pd.DataFrame]) -> None:
    tables, ard = written
    own = ard[(ard["analysis"] == "adverse-events") & (ard["result"] == "counts")]
    counts = own.pivot_table(
        index=[own["AEDECOD"].fillna(own["AEBODSYS"]).fillna("Any adverse event"), "ROUTE"],
        columns="stat_name", values="stat",
    )  # fmt: skip
    (_, *arms), *body = tables["Adverse events by route"]
    checked = 0
    for term, *cells in body:
        for arm, cell in zip(arms, cells, strict=True):
            found = re.fullmatch(r"(\d+)(?: \((\d+\.\d)%\))?", cell)
            assert found is not None, cell
            row = counts.loc[(term, arm.split(" (")[0].upper())]
            assert int(found[1]) == row["n_subjects"]
            assert found[2] is None or found[2] == shown(row["percent"], 1)
            checked += 1
    assert checked > 150


def test_another_number_would_be_noticed(tmp_path: Path) -> None:
    assert shown(-0.25, 1) == "-0.3"
    assert shown(0.24999, 1) == "0.2"
    reader = Tables()
    reader.feed("<table><caption>c</caption><tr><th>a</th><td>1.0</td></tr><tfoot><tr><td>n</td></tr></tfoot></table>")
    assert reader.found == {"c": [["a", "1.0"]]}
