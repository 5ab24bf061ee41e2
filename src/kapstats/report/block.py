"""What the pipeline hands to the page: blocks of results, already computed, with the words that go with them."""

from __future__ import annotations

from dataclasses import dataclass, field

from kapstats.estimates import Estimates
from kapstats.table import Table


@dataclass(frozen=True, slots=True)
class Result:
    """One set of numbers of one analysis, and its table unless another table shows them."""

    name: str
    estimates: Estimates
    table: Table | None = None
    filterable: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """What an analysis says to its question: a lead and one line per group."""

    lead: str
    lines: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Picture:
    """One figure: SVG text and the same in words."""

    name: str
    title: str
    description: str
    svg: str


@dataclass(frozen=True, slots=True)
class Block:
    """One analysis of the plan.

    question : "subjects", "response", "relapse" or "safety"
    sentence : the model sentence, the first thing a reader sees
    answers : what it says to the question, for the head of the report
    methods : paragraphs with citations
    failed : why there is no estimate, when there is none
    """

    name: str
    question: str
    title: str
    sentence: str = ""
    answers: tuple[Answer, ...] = ()
    results: tuple[Result, ...] = ()
    pictures: tuple[Picture, ...] = ()
    methods: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    failed: str = ""


@dataclass(frozen=True, slots=True)
class Document:
    """The whole report.

    facts : label and value pairs under the title
    provenance : title and table, shown at the end (inputs, versions)
    notes : paragraphs under the head, above the answers
    questions : headings of sections in place of the usual ones, as (question, heading) pairs
    created : time stamp, the only thing that differs between two runs on the same inputs
    """

    title: str
    blocks: tuple[Block, ...]
    subtitle: str = ""
    facts: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    questions: tuple[tuple[str, str], ...] = ()
    provenance: tuple[Table, ...] = ()
    created: str = ""
    language: str = field(default="en")
