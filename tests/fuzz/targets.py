"""What is fed and what it is held against: a target takes a random generator and raises what is a finding."""

from __future__ import annotations

import csv
import html
import io
import json
import math
import random
import re
import tempfile
import warnings
from collections.abc import Callable
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import kapstats as ks
from kapstats.data.files import read_table
from kapstats.errors import KapstatsError
from kapstats.formula.design import build
from kapstats.formula.expressions import evaluate
from kapstats.formula.split import parse
from kapstats.pipeline.plan import parse as parse_plan
from kapstats.table import Table
from tests.fuzz import mutate

FORMULAS = (
    "CHG ~ BASE*AVISIT + TRT01P*AVISIT + us(AVISIT | USUBJID)",
    "y ~ a + b + a:b + (1 + a | g) + (1 | h)",
    "Surv(a, b == 0) ~ g + strata(h) + cluster(c)",
    "Surv(a, b, type='interval2') ~ factor(g) + offset(log(c))",
    "y ~ poly(a, 2) + bs(b, df=4) - 1 + I(a^2) + frailty(g, 'gamma')",
    "log(a) ~ (a + b + g)**2 / h %in% g",
    "y ~ `odd name` * g + cs(h | g / c)",
)
FRAME = pd.DataFrame(
    {"a": [1.5, 2.0, 3.25, 4.0, 5.5, 6.0], "b": [0.5, -1, 2, 0, 1, -3], "c": [1, 2, 3, 4, 5, 6], "g": list("xyxyxz"),
     "h": [1, 1, 2, 2, 3, 3], "y": [0.1, 0.7, -0.4, 0.2, 0.9, 0.3], "odd name": [1, 0, 1, 0, 1, 0]}
)  # fmt: skip


def formula(draw: random.Random) -> None:
    """Damaged formulas: read and built, or refused by name; a built design is finite and has a name per column."""
    text = mutate.text(draw, draw.choice(FORMULAS))
    try:
        design = build(parse(text).fixed, FRAME)
    except KapstatsError:
        return
    assert design.X.shape == (6, len(design.names)) == (6, design.terms[-1].stop if design.terms else 0), text
    assert np.isfinite(design.X).all(), text


OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "+": np.add, "-": np.subtract, "*": np.multiply, "/": np.divide,
}  # fmt: skip


def expression(draw: random.Random) -> None:
    """Arithmetic of random depth beside a second evaluation of the same tree."""

    def tree(depth: int) -> tuple[str, Any]:
        if depth == 0 or draw.random() < 0.2:
            name = draw.choice(["a", "b", "c", str(draw.randint(1, 9)), f"{draw.uniform(0, 5):.3f}"])
            return name, FRAME[name].to_numpy(float) if name in FRAME else float(name)
        if draw.random() < 0.25:
            text, value = tree(depth - 1)
            call, function = draw.choice([("exp", np.exp), ("abs", np.abs), ("sqrt", np.sqrt), ("floor", np.floor)])
            return f"{call}({text})", function(value)
        sign = draw.choice(list(OPERATORS))
        (left, x), (right, y) = tree(depth - 1), tree(depth - 1)
        return f"({left} {sign} {right})", OPERATORS[sign](x, y)

    with np.errstate(all="ignore"):
        text, wanted = tree(draw.randint(1, 5))
    wanted = np.broadcast_to(wanted, 6)
    try:
        found = evaluate(text, FRAME)
    except KapstatsError:
        assert not np.isfinite(wanted).all(), text
        return
    assert np.allclose(found, wanted, rtol=1e-12, atol=0), text


PLAN = """[study]
title = "T"
data = "kap-parallel"

[defaults]
level = 0.9

[[analysis]]
kind = "mmrm"
name = "madrs"
title = "Change"
where = ["PARAMCD == 'MADRS'", "AVISITN > 0"]
formula = "CHG ~ BASE*AVISIT + TRT01P*AVISIT + us(AVISIT | USUBJID)"
adjust = ["dunnett", "holm"]

[[analysis]]
kind = "survival"
name = "relapse"
title = "Relapse"
formula = "Surv(AVAL, CNSR == 0) ~ TRT01P"
show = ["logrank", "cox"]
tau = 77
"""


def plan(draw: random.Random) -> None:
    """Damaged plans: read, or an error of ours; what is read has a name that can be a file's."""
    try:
        made = parse_plan(mutate.text(draw, PLAN, 3))
    except KapstatsError:
        return
    for analysis in made.analyses:
        assert re.fullmatch(r"[\w-]+", analysis.name), analysis.name


def _cell(draw: random.Random) -> str:
    match draw.randrange(6):
        case 0:
            return str(draw.randint(-999, 10**9))
        case 1:
            return repr(draw.uniform(-1e6, 1e6))
        case 2:
            return draw.choice(["KAP IV", "Placebo", "a,b", 'say "x"', "two\nlines", "é", "=1+1", " x ", "007", "1e5"])
        case _:
            return "".join(draw.choice("abcXYZ019 .-") for _ in range(draw.randint(1, 8))).strip() or "x"


def csv_table(draw: random.Random) -> None:
    """A table written as csv in one of many dialects reads as the same text, cell by cell, or is refused."""
    columns = [f"C{i}" for i in range(draw.randint(2, 5))]
    rows = [[_cell(draw) for _ in columns] for _ in range(draw.randint(1, 6))]
    buffer = io.StringIO()
    how = {"delimiter": draw.choice([",", ",", ";", "\t"]), "quoting": draw.choice([csv.QUOTE_ALL, csv.QUOTE_MINIMAL])}
    csv.writer(buffer, lineterminator=draw.choice(["\n", "\r\n"]), **how).writerows([columns, *rows])  # type: ignore[arg-type]
    found = _read(draw.choice([b"", b"\xef\xbb\xbf"]) + buffer.getvalue().encode(), "adqs.csv")
    if found is None:
        return
    assert found.shape == (len(rows), len(columns)), buffer.getvalue()
    for j, name in enumerate(found.columns):
        for shown, written in zip(found[name], (row[j] for row in rows), strict=True):
            assert _same(shown, written), (buffer.getvalue(), name, shown, written)


def _same(shown: Any, written: str) -> bool:
    if isinstance(shown, str):
        return shown == written or shown.strip() == written.strip()
    if shown is None or shown is pd.NaT or shown != shown:
        return written.strip() in ("", "NA", ".", "NaN")
    try:
        return math.isclose(float(shown), float(written), rel_tol=1e-14)
    except ValueError:
        return False


def _read(raw: bytes, name: str) -> pd.DataFrame | None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(raw)
        try:
            return read_table(path)
        except KapstatsError:
            return None


@cache
def _files() -> dict[str, bytes]:
    import pyreadstat

    frame = pd.DataFrame({"USUBJID": ["1", "2", "3"], "AVAL": [1.5, np.nan, -2], "AVISIT": ["Day 1", "é", ""]})
    made: dict[str, bytes] = {"adqs.csv": frame.to_csv(index=False).encode()}
    rows = {"datasetJSONVersion": "1.1.0", "records": 3, "name": "ADQS", "label": "x",
            "columns": [{"itemOID": c, "name": c, "label": c, "dataType": t} for c, t in
                        (("USUBJID", "string"), ("AVAL", "float"))],
            "rows": [["1", 1.5], ["2", None], ["3", -2.0]]}  # fmt: skip
    made["adqs.json"] = json.dumps(rows).encode()
    with tempfile.TemporaryDirectory() as folder:
        for name in ("adqs.parquet", "adqs.xpt"):
            path = Path(folder) / name
            if name.endswith("parquet"):
                frame.to_parquet(path)
            else:
                pyreadstat.write_xport(frame.assign(AVISIT="Day 1"), str(path), file_format_version=5)
            made[name] = path.read_bytes()
    return made


def damaged(draw: random.Random) -> None:
    """Files with turned, lost and doubled bytes: a table, or an error of ours."""
    name = draw.choice(sorted(_files()))
    _read(mutate.raw(draw, _files()[name]), name)


class _Text(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        assert {name for name, _ in attrs} <= {"class", "scope", "colspan"}, attrs

    def handle_data(self, data: str) -> None:
        self.text.append(data)


PARTS = {"table", "caption", "thead", "tbody", "tfoot", "tr", "th", "td", "div"}


def label(draw: random.Random) -> None:
    """Hostile labels come out of every renderer as the text they are."""
    seeds = ["<img src=x onerror=alert(1)>", "=HYPERLINK(1)", r"{\rtf1 \object}", "a & b", "100% \\LaTeX$_^~", "| x"]
    word = mutate.text(draw, draw.choice(seeds)).replace("\x00", "")
    table = Table(("", word), ((word, "1"),), title=word, footnotes=(word,))
    reader = _Text()
    reader.feed(table.to_html())
    assert reader.tags <= PARTS, word
    assert html.unescape(html.escape(word)) in "".join(reader.text) or "\r" in word, word
    rows = [line for line in table.to_markdown().splitlines() if line.startswith("|")]
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in rows}) <= 1, word
    with tempfile.TemporaryDirectory() as folder:
        rtf = table.to_rtf(Path(folder) / "t.rtf").read_bytes()
    plain = re.sub(rb"\\[\\{}]", b"", rtf)
    assert plain.count(b"{") == plain.count(b"}"), word
    assert max(rtf) < 128, word
    assert b"\\object" not in plain, word


def survival(draw: random.Random) -> None:
    """Small samples with ties, no events, negative and missing times: a curve equal to a slow one, or an error."""
    n = draw.randint(1, 12)
    times = [draw.choice([0.5, 1, 1, 2, 3, 3, 5, 8, 13, math.nan, -1, 0, math.inf] if draw.random() < 0.1 else
                         [0.5, 1, 1, 2, 3, 5, 8]) for _ in range(n)]  # fmt: skip
    frame = pd.DataFrame({"t": times, "e": [draw.randint(0, 1) for _ in range(n)]})
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            curve = ks.kaplan_meier("Surv(t, e) ~ 1", frame).to_frame()
    except KapstatsError:
        return
    used = frame.dropna()
    left = 1.0
    for at in sorted(set(used["t"])):
        risk, events = int((used["t"] >= at).sum()), int(((used["t"] == at) & (used["e"] == 1)).sum())
        left *= 1 - events / risk
        row = curve[curve["time"] == at]
        assert len(row) == 1, times
        assert math.isclose(float(row["estimate"].iloc[0]), left, abs_tol=1e-12), times
        assert (int(row["n_risk"].iloc[0]), int(row["n_event"].iloc[0])) == (risk, events), times


def counts(draw: random.Random) -> None:
    """Interval of a risk difference: holds its estimate, inside [-1, 1], and turns its sign with the groups."""
    n1, n2 = (draw.choice([0, 1, 2, 5, 40, 1000, 10**7]) for _ in range(2))
    x1, x2 = (draw.choice([0, n, n // 2, draw.randint(0, n)]) for n in (n1, n2))
    method = draw.choice(["miettinen-nurminen", "farrington-manning", "newcombe", "agresti-caffo"])
    try:
        there = ks.risk_difference(x1, n1, x2, n2, method=method).frame.iloc[0]
        back = ks.risk_difference(x2, n2, x1, n1, method=method).frame.iloc[0]
    except KapstatsError:
        return
    low, high = there["conf_low"], there["conf_high"]
    if low != low:
        assert 0 in (n1, n2), (x1, n1, x2, n2, method)
        return
    assert -1 - 1e-9 <= low <= high <= 1 + 1e-9, (x1, n1, x2, n2, method)
    assert math.isclose(low, -back["conf_high"], abs_tol=1e-8), (x1, n1, x2, n2, method)
    assert low - 1e-9 <= x1 / n1 - x2 / n2 <= high + 1e-9 or method == "agresti-caffo", (x1, n1, x2, n2, method)


TARGETS: dict[str, Callable[[random.Random], None]] = {
    f.__name__: f for f in (formula, expression, plan, csv_table, damaged, label, survival, counts)
}
