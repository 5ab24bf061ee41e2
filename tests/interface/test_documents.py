"""Tables as documents: numbered, titled, broken into pages as the plan says; no label becomes a command."""

from __future__ import annotations

import importlib.util
import io
import re
from pathlib import Path

import docx
import numpy as np
import pytest

from kapstats.data.trial import Trial
from kapstats.errors import DataError, FormulaError
from kapstats.pipeline.plan import parse
from kapstats.pipeline.run import run
from kapstats.report.document import Layout, Sheet, edges, headings, paginate, panels
from kapstats.report.render import docx as word
from kapstats.report.render import latex, rtf
from kapstats.table import Table

PLAN = """
[study]
title = "Small"

[documents]
formats = ["rtf", "docx", "latex"]
header = "Protocol K-1"
footer = "Confidential"

[[analysis]]
kind = "baseline"
name = "baseline"
title = "Subjects at baseline"
population = "SAFFL"
number = "14.1.1"
page_rows = 6
footnotes = ["Ages in years."]

[[analysis]]
kind = "survival"
name = "relapse"
title = "Time to relapse"
formula = "Surv(AVAL, CNSR == 0) ~ TRT01P"
show = ["logrank"]
number = "14.2.1"

[[analysis]]
kind = "listing"
name = "times"
title = "Times"
dataset = "adtte"
columns = ["USUBJID", "SEX", "AVAL"]
where = ["CNSR == 0"]
number = "16.2.1"
"""
HOSTILE = [
    r"{\field{\*\fldinst INCLUDETEXT /etc/passwd}}",
    r"\input{/etc/passwd}",
    "<img src=x onerror=alert(1)>",
    "a|b",
]


def small(arm: str = "KAP") -> Trial:
    arms = {"TRT01P": ["Placebo", arm] * 6, "TRT01PN": [0, 1] * 6}
    about = {"AGE": range(20, 32), "SEX": list("FFMMFF") * 2, "SAFFL": "Y"}
    adsl = {"USUBJID": [f"S{i:02d}" for i in range(12)], **arms, **about}
    adsl["SAFFL"] = ["Y"] * 12
    adtte = {"USUBJID": adsl["USUBJID"], **arms, "AVAL": range(3, 15), "CNSR": [0, 1, 0, 0] * 3}
    return Trial(adsl=adsl, adtte=adtte)


def text_of(content: bytes) -> tuple[str, list[str]]:
    """All text of a Word file: its tables, and the heads and feet of its sections."""
    document = docx.Document(io.BytesIO(content))
    cells = [cell.text for table in document.tables for row in table.rows for cell in row.cells]
    running = ["\n".join(p.text for part in (s.header, s.footer) for p in part.paragraphs) for s in document.sections]
    return "\n".join(cells), running


def test_a_plan_gives_numbered_tables_in_every_format() -> None:
    done = run(parse(PLAN), small())
    names = ["baseline", "relapse-survival", "relapse-logrank", "times", "all-tables"]
    assert {f"tables/{n}.{e}" for n in names for e in ("rtf", "docx", "tex")} <= set(done.files)
    for ending in ("rtf", "tex"):
        whole = done.files[f"tables/all-tables.{ending}"].decode("ascii")
        for said in ("Table 14.1.1", "Table 14.2.1.1", "Table 14.2.1.2", "Listing 16.2.1", "Ages in years."):
            assert said in whole
        for said in ("Protocol K-1", "Confidential", "Safety population", "Placebo (N=6)", "half away from zero"):
            assert said in whole
    shown, running = text_of(done.files["tables/all-tables.docx"])
    assert "Placebo (N=6)" in shown
    assert [re.search(r"(Table|Listing) [\d.]+\d", page)[0] for page in running] == [
        *["Table 14.1.1"] * 2, "Table 14.2.1.1", "Table 14.2.1.2", "Listing 16.2.1",
    ]  # fmt: skip
    assert all("Protocol K-1" in page and "Confidential" in page for page in running)


def test_pages_begin_where_the_plan_says() -> None:
    whole = run(parse(PLAN), small()).files["tables/baseline.rtf"].decode()
    pages = whole.split("\\sectd")[1:]
    assert len(pages) == 2
    assert all(page.count("\\row") <= 7 and page.count("\\trhdr") == 1 for page in pages)
    assert ["\\b Table 14.1.1" in page for page in pages] == [True, True]
    apart = run(parse(PLAN.replace("page_rows = 6", "page_by_heading = true")), small())
    assert apart.files["tables/baseline.rtf"].decode().count("\\sectd") == 2  # AGE and SEX


def test_the_same_tables_give_the_same_bytes() -> None:
    first, second = (run(parse(PLAN), small()).files for _ in "ab")
    tables = [name for name in first if name.startswith("tables/")]
    assert len(tables) == 15
    assert all(first[name] == second[name] for name in tables)


def test_no_document_is_written_unasked_and_word_needs_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = PLAN.replace('formats = ["rtf", "docx", "latex"]', "")
    assert not [name for name in run(parse(plain), small()).files if name.startswith("tables/")]
    known = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "docx" else known(name))
    with pytest.raises(FormulaError, match="needs python-docx"):
        run(parse(PLAN), small())


@pytest.mark.parametrize("seed", range(20))
def test_pages_hold_every_row_once_and_no_more_than_they_may(seed: int) -> None:
    draw = np.random.default_rng(seed)
    n, limit = int(draw.integers(1, 40)), int(draw.integers(2, 12))
    indent = tuple(int(i) for i in draw.integers(0, 3, size=n))
    table = Table(("", "n"), tuple((f"row {i}", str(i)) for i in range(n)), indent=indent)
    pages = paginate(table, limit)
    assert all(len(page.rows) <= limit for page in pages)
    own = [row for page in pages for row in page.rows if not row[0].endswith("(continued)")]
    assert own == list(table.rows)
    assert paginate(table) == (table,)


def test_many_columns_are_continued_with_the_first_column() -> None:
    table = Table(("", *(f"A{i}" for i in range(300))), (("n", *map(str, range(300))),))
    parts = panels(table)
    assert [c for part in parts for c in part.columns[1:]] == list(table.columns[1:])
    assert all(part.columns[0] == "" and len(part.columns) <= 12 for part in parts)
    written = docx.Document(io.BytesIO(word.document([Sheet("x", table)], Layout())))
    assert len(written.tables) == len(parts)


def test_widths_fill_the_page_and_grow() -> None:
    table = Table(("Term", "Placebo (N=6)"), (("a very long term " * 9, "1"), ("b", "2")), indent=(0, 2))
    places = edges(table, 13680)
    assert places[-1] == 13680
    assert 0 < places[0] < places[1]
    assert headings(table) == (True, False)


@pytest.mark.parametrize("arm", HOSTILE)
def test_labels_never_become_commands(arm: str, tmp_path: Path) -> None:
    done = run(parse(PLAN), small(arm), tmp_path / "out")
    source = done.files["tables/all-tables.rtf"].decode("ascii")
    assert re.search(r"(?<!\\)\\fldinst INCLUDETEXT", source) is None
    assert source.count("{") - source.count("\\{") == source.count("}") - source.count("\\}")
    assert "\\input{" not in done.files["tables/all-tables.tex"].decode()
    assert arm in text_of(done.files["tables/all-tables.docx"])[0]
    assert "<img src=x" not in done.html
    assert arm in set(done["relapse"]["medians"].frame["TRT01P"])


def test_control_characters_and_lone_surrogates_do_not_break_a_document(tmp_path: Path) -> None:
    table = Table(("", "a\x00b\x1bc"), (("x\x0b", "\ud800 5 µg"),), title="\x07T")
    assert rtf.render(table).isascii()
    assert "abc" in text_of(table.to_docx(tmp_path / "t.docx").read_bytes())[0]
    assert r"\textbackslash{}" in latex.render(Table((r"\x",), (("1",),)))


def test_the_order_of_levels_is_what_the_plan_says() -> None:
    trial = small()
    trial = trial.with_data(adsl=trial.adsl.assign(SITE=[1, 2, 3] * 4))
    text = PLAN + '\n[levels]\nSITE = ["3", "1", "2"]\n'
    text = text.replace("page_rows = 6", 'variables = ["SITE"]\npage_rows = 6')
    shown = run(parse(text), trial)["baseline"]["baseline"].frame
    assert list(dict.fromkeys(shown["level"])) == ["3", "1", "2"]
    with pytest.raises(DataError, match=r"no dataset has a column 'SITEE'\. Did you mean 'SITE'"):
        run(parse(text.replace("SITE =", "SITEE =")), trial)
    with pytest.raises(DataError, match=r"ADSL.SITE holds levels that the order does not name \(2\)"):
        run(parse(text.replace(', "2"]', "]")), trial)
    with pytest.raises(FormulaError, match=r"line \d+: SITE = 3: expected a list of levels"):
        parse(text.replace('["3", "1", "2"]', "3"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (('"rtf", "docx"', '"rtff", "docx"'), r"line 6: formats = 'rtff'. Did you mean 'rtf'\?"),
        (("[documents]", "[document]"), r"line 5: there is no table \[document\]. Did you mean 'documents'\?"),
        (("footer =", "foot ="), r"line 8: \[documents\] has no key 'foot'. Did you mean 'footer'\?"),
        (("page_rows = 6", "page_rows = -1"), r"line 16: page_rows = -1"),
        (('number = "14.1.1"', "number = 14.1"), r"line 15: number = 14.1: expected text in quotes"),
    ],
)
def test_a_broken_document_table_names_its_line(change: tuple[str, str], said: str) -> None:
    with pytest.raises(FormulaError, match=said):
        parse(PLAN.replace(*change), "my.toml")
