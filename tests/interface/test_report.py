"""The page: complete, escaped, self-contained, readable by machines and by those who cannot see it."""

from __future__ import annotations

import dataclasses
import itertools
import re
from html.parser import HTMLParser

import pandas as pd
import pytest

from kapstats.estimates import Estimates, meta
from kapstats.report.block import Answer, Block, Document, Picture, Result
from kapstats.report.figures import profile, style
from kapstats.report.page import SWITCHED, inline, page
from kapstats.table import Table

EVIL = '<img src="http://evil/x.png" onerror=alert(1)>&"\'</script>'
VOID = {"meta", "br", "img", "input", "link", "hr"}


def figure(description: str = "d") -> str:
    rows = [("Placebo", "Day 1", -1.0, -2.0, 0.0), ("KAP IV", "Day 1", -5.0, -6.0, -4.0)]
    frame = pd.DataFrame(rows, columns=["TRT01P", "AVISIT", "estimate", "conf_low", "conf_high"])
    return style.to_svg(profile.profile(frame, ax=style.blank(5, 3)), title="t", description=description)


def document(text: str = "text") -> Document:
    numbers = Estimates(pd.DataFrame({"term": [text], "estimate": [1.0]}), meta(method="m", title=text))
    table = Table(("", text), ((text, "1"), ("other", "2")), title=text, footnotes=(text,), indent=(0, 1))
    block = Block(
        name="a b",
        question="response",
        title=text,
        sentence=text,
        answers=(Answer(text, ((text, text),)),),
        results=(Result("r", numbers, table, filterable=True), Result("only-csv", numbers)),
        pictures=(Picture("p", text, text, figure(text)), Picture("q", text, text, figure(text))),
        methods=(text,),
        warnings=(text,),
    )
    failed = Block(name="c", question="safety", title=text, failed=text)
    return Document(
        title=text,
        blocks=(block, failed),
        subtitle=text,
        facts=((text, text),),
        notes=(text,),
        provenance=(table,),
        created="2026-01-01T00:00:00Z",
    )


class Reader(HTMLParser):
    """Collects tags and complains when they do not close in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, tag
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    assert reader.open == []
    return reader


def test_tags_close_and_ids_are_unique() -> None:
    reader = read(page(document()))
    ids = [a["id"] for _, a in reader.tags if "id" in a]
    assert len(ids) == len(set(ids))
    targets = [a["href"] for _, a in reader.tags if (a.get("href") or "").startswith("#")]
    assert {t[1:] for t in targets if t} <= set(ids)
    assert len(targets) > 10


def test_two_equal_figures_would_clash_without_a_prefix() -> None:
    ids = [re.findall(r'\bid="([^"]+)"', inline(figure(), prefix=p)) for p in ("x", "y", "x")]
    assert set(ids[0]).isdisjoint(ids[1])
    assert set(ids[0]) == set(ids[2])


def test_everything_is_escaped() -> None:
    html = page(document(EVIL))
    reader = read(html)
    assert "img" not in {tag for tag, _ in reader.tags}
    assert sum(tag == "script" for tag, _ in reader.tags) == 1
    assert not any(name.startswith("on") for _, a in reader.tags for name in a)
    assert "".join(reader.text).count(EVIL) >= 10


def test_nothing_is_fetched() -> None:
    html = page(document())
    reader = read(html)
    for _, attributes in reader.tags:
        for name in ("src", "href", "action", "data", "poster", "srcset", "xlink:href"):
            assert "//" not in (attributes.get(name) or "")
    assert "@import" not in html
    assert not re.search(r"url\(\s*['\"]?(?!#)", html)
    policy = next(a["content"] for t, a in reader.tags if t == "meta" and "http-equiv" in a)
    assert policy is not None
    assert policy.startswith("default-src 'none'")


def test_headings_descend_one_step_at_a_time() -> None:
    levels = [int(tag[1]) for tag, _ in read(page(document())).tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b - a <= 1 for a, b in itertools.pairwise(levels))


def test_tables_have_captions_and_scopes_and_figures_have_words() -> None:
    reader = read(page(document()))
    tags = [t for t, _ in reader.tags]
    assert tags.count("caption") == tags.count("table") == 2
    assert all(a.get("scope") in ("row", "col") for t, a in reader.tags if t == "th")
    pictures = [a for t, a in reader.tags if t == "svg"]
    assert len(pictures) == 2
    assert all(a.get("role") == "img" for a in pictures)
    assert tags.count("desc") == 2
    assert dict(reader.tags)["html"]["lang"] == "en"


def test_figures_follow_the_page_into_the_dark() -> None:
    html = page(document())
    for light, dark in SWITCHED.items():
        assert f"--c{light[1:]}:{light}" in html
        assert f"--c{light[1:]}:{dark}" in html
    body = html[html.index("<body") :]
    assert f"var(--c{style.ROUTES['INTRAVENOUS'][0].colour[1:]})" in body
    assert not any(f": {colour}" in body for colour in SWITCHED)


def test_only_questions_that_were_asked_are_there() -> None:
    html = page(document())
    assert 'id="response"' in html
    assert 'id="safety"' in html
    assert 'id="relapse"' not in html
    assert "No estimate" in html


@pytest.mark.parametrize("svg", ['<svg width="1pt" height="1pt"><g id="a"/></svg>'])
def test_a_figure_without_a_view_box_still_stands(svg: str) -> None:
    assert inline(svg, prefix="p") == '<svg><g id="p-a"/></svg>'


def test_a_plan_may_ask_in_its_own_words() -> None:
    html = page(dataclasses.replace(document(), questions=(("response", "Did it <work>?"), ("safety", ""))))
    assert "</span> Did it &lt;work&gt;?</h2>" in html
    assert "What did it do to them?" in html
