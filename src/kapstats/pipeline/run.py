"""From a plan and a trial to a report: compute everything, then write everything."""

from __future__ import annotations

import importlib
import json
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kapstats.data import datasets, output
from kapstats.data.readers import read_adam
from kapstats.data.trial import Trial
from kapstats.errors import (
    ConvergenceError,
    DataError,
    EstimabilityError,
    FormulaError,
    KapstatsWarning,
    RepeatedSubjects,
)
from kapstats.estimates import Estimates
from kapstats.pipeline import documents
from kapstats.pipeline import manifest as manifests
from kapstats.pipeline.findings import findings
from kapstats.pipeline.kinds import Analysis
from kapstats.pipeline.levels import ordered
from kapstats.pipeline.plan import Plan, read
from kapstats.report.block import Block, Document
from kapstats.report.page import QUESTIONS, page

#: kind of analysis -> module that runs it
RUNNERS = {
    "Baseline": "describe",
    "Disposition": "describe",
    "Exposure": "describe",
    "Listing": "describe",
    "Mmrm": "response",
    "Subgroups": "subgroups",
    "Survival": "relapse",
    "Incidence": "safety",
    "Course": "course",
}
DEFAULT = "kap-parallel"


@dataclass(frozen=True, slots=True)
class Run:
    """A finished run.

    blocks : one per analysis of the plan
    findings : what is wrong or doubtful in the data that were used (errors and warnings of `trial.check()`)
    files : name -> content of everything written
    folder : where it was written, None when it was not
    """

    plan: Plan
    blocks: tuple[Block, ...]
    files: dict[str, bytes]
    folder: Path | None = None
    findings: tuple[str, ...] = ()

    @property
    def warnings(self) -> tuple[str, ...]:
        """Everything the reader has to bear in mind, with the analysis it belongs to."""
        failed = [f"{b.name}: {b.failed}" for b in self.blocks if b.failed]
        data = [f"data: {text}" for text in self.findings]
        return (*data, *failed, *(f"{b.name}: {w}" for b in self.blocks for w in b.warnings))

    def __getitem__(self, name: str) -> dict[str, Estimates]:
        """The results of one analysis by name."""
        block = next((b for b in self.blocks if b.name == name), None)
        if block is None:
            raise KeyError(f"No analysis {name!r}; there are {', '.join(b.name for b in self.blocks)}.")
        return {result.name: result.estimates for result in block.results}

    @property
    def html(self) -> str:
        """The report."""
        return self.files["report.html"].decode("utf-8")


def run(
    plan: str | Path | Plan | None = None,
    data: str | Path | Trial | None = None,
    out: str | Path | None = None,
    *,
    encoding: str | None = None,
    progress: Callable[[str], None] | None = None,
) -> Run:
    """Run every analysis of a plan and write the report.

    Parameters
    ----------
    plan : TOML file, name of a built-in plan ("kap-parallel", "cdisc-pilot"), or a `Plan`
    data : folder of ADaM files, a `Trial`, or the name of a dataset; by default the one that the plan names
    out : folder to write; None computes without writing. An earlier output there is replaced as a whole
    encoding : of text in csv, xpt and sas7bdat files; by default UTF-8 (sas7bdat: what the file says)
    progress : called with a line of text before each step

    Returns
    -------
    Run
        ``run["primary"]["differences"]`` is an `Estimates`; ``run.html`` the report; ``run.warnings``.

    Raises
    ------
    FormulaError, DataError
        For anything wrong in plan, data or output folder; nothing is written then. An estimate that does not exist
        (no convergence, not estimable) is no error: the report says so in its place.

    Notes
    -----
    Written are ``report.html`` (one file, nothing to fetch), ``results/<analysis>-<table>.csv``, all results as one
    ``results/ard.csv``, ``figures/*.svg``, ``manifest.json`` and ``run.log``. The same inputs give the same bytes apart
    from the time stamp in report.html and manifest.json.

    Examples
    --------
    >>> plan = '''
    ... [study]
    ... title = "Two arms"
    ... [[analysis]]
    ... kind = "survival"
    ... name = "relapse"
    ... title = "Time to relapse"
    ... formula = "Surv(AVAL, CNSR == 0) ~ TRT01P"
    ... show = ["logrank"]
    ... '''
    >>> from kapstats.pipeline.plan import parse
    >>> adtte = {"USUBJID": list("abcdefgh"), "TRT01P": ["Placebo", "KAP"] * 4, "TRT01PN": [0, 1] * 4}
    >>> adtte |= {"AVAL": [3, 9, 5, 8, 2, 7, 4, 9], "CNSR": [0, 1, 0, 0, 0, 0, 1, 1]}
    >>> done = run(parse(plan), Trial(adtte=adtte))
    >>> done["relapse"]["medians"]["estimate"].tolist()
    [4.0, 8.5]
    """
    say = progress or (lambda text: None)
    plan = read(DEFAULT if plan is None else plan)
    documents.check(plan.documents)
    if out is not None:
        output.check(out)
    say("reading data")
    trial, source = _trial(plan, data, encoding)
    trial = ordered(trial, plan.levels)
    say("checking data")
    found = findings(plan, trial)
    blocks = tuple(_analyse(analysis, trial, say) for analysis in plan.analyses)
    say("writing the report")
    done = Run(plan, blocks, _files(plan, trial, source, blocks, found), findings=found)
    return done if out is None else replace(done, folder=output.write(done.files, out))


def _trial(plan: Plan, data: str | Path | Trial | None, encoding: str | None) -> tuple[Trial, Path | None]:
    """The trial, and the folder it came from if any."""
    if isinstance(data, Trial):
        return data, None
    arms = plan.study.arms or None
    if data is None and plan.study.data == "":
        raise DataError(f"{plan.source} names no built-in data; give a folder of ADaM files (--data DIR).")
    if data is None or (not Path(data).exists() and str(data) in datasets.list()):
        name = plan.study.data if data is None else str(data)
        folder = datasets.folder() / name
        return datasets.load(name), folder if folder.is_dir() else None
    return read_adam(data, arms=arms, encoding=encoding), Path(data)


def _analyse(analysis: Analysis, trial: Trial, say: Callable[[str], None]) -> Block:
    """One analysis; what cannot be estimated becomes a block that says so, every warning is kept."""
    say(analysis.title)
    module = importlib.import_module(f"kapstats.pipeline.{RUNNERS[type(analysis).__name__]}")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            block: Block = module.block(analysis, trial)
        except (ConvergenceError, EstimabilityError) as error:
            block = Block(analysis.name, analysis.question, analysis.title, failed=str(error))
        except (DataError, FormulaError) as error:
            raise type(error)(f"analysis {analysis.name!r}: {error}") from error
    repeated = next((str(w.message) for w in caught if issubclass(w.category, RepeatedSubjects)), None)
    if repeated:
        raise DataError(f"analysis {analysis.name!r}: {repeated} In a plan, where = [...] keeps the rows of one.")
    ours = [str(w.message) for w in caught if issubclass(w.category, KapstatsWarning)]
    return replace(block, warnings=tuple(dict.fromkeys([*block.warnings, *ours])))


def _files(
    plan: Plan, trial: Trial, source: Path | None, blocks: tuple[Block, ...], found: tuple[str, ...]
) -> dict[str, bytes]:
    """Everything to be written, name -> content."""
    files: dict[str, bytes] = {}
    for block in blocks:
        for result in block.results:
            files[f"results/{block.name}-{result.name}.csv"] = _csv(result.estimates.frame)
        for picture in block.pictures:
            files[f"figures/{block.name}-{picture.name}.svg"] = f"{picture.svg.rstrip()}\n".encode()
    files["results/ard.csv"] = _ard(plan, blocks)
    files |= documents.files(plan, blocks)
    files["run.log"] = _log(plan, trial, blocks, found).encode()
    made = manifests.manifest(plan, trial, source, files)
    stamp = manifests.created()
    document = _document(plan, trial, blocks, found, made, stamp)
    files["report.html"] = page(document).encode()
    files[output.MARK] = (json.dumps({"created": stamp, **made}, indent=2, ensure_ascii=False) + "\n").encode()
    return files


def _csv(frame: Any) -> bytes:
    """CSV with full precision; text that a spreadsheet would run as a formula gets an apostrophe in front."""
    text = frame.select_dtypes(exclude="number").columns
    safe = frame.assign(**{c: frame[c].map(_harmless) for c in text})
    return safe.to_csv(index=False, lineterminator="\n").encode()


def _harmless(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value


def _ard(plan: Plan, blocks: tuple[Block, ...]) -> bytes:
    """All results as analysis results data, one row per statistic: of which variable, in which groups."""
    import pandas as pd

    from kapstats import frames

    parts = []
    for analysis, block in zip(plan.analyses, blocks, strict=True):
        for result in (r for r in block.results if r.estimates.meta.get("method") != "listing"):
            long = frames.to_pandas(result.estimates.to_ard())
            long.insert(0, "result", result.name)
            if "variable" not in long:
                long.insert(1, "variable", analysis.variable)
            parts.append(long.assign(analysis=block.name))
    if not parts:
        return b""
    columns = list(dict.fromkeys(c for part in parts for c in part.columns))
    whole = pd.DataFrame({c: [v for part in parts for v in _column(part, c)] for c in columns})
    ends = ["stat_name", "stat", "stat_fmt", "method", "conf_level", "warning"]
    groups = [c for c in whole.columns if c not in ("analysis", "result", "variable", *ends)]
    return _csv(whole[["analysis", "result", "variable", *groups, *ends]])


def _column(part: Any, name: str) -> list[Any]:
    return part[name].tolist() if name in part else [None] * len(part)


def _document(
    plan: Plan, trial: Trial, blocks: tuple[Block, ...], found: tuple[str, ...], made: dict[str, Any], stamp: str
) -> Document:
    arms = {arm: int(n) for arm, n in _arm_sizes(trial).items()}
    facts = [("Subjects", str(trial.n_subjects)), ("Arms", ", ".join(f"{a} {n}" for a, n in arms.items()))]
    notes: tuple[str, ...] = ()
    if trial.truth:
        notes = (
            "Simulated trial: nobody stands behind these data. The true value of what is estimated is known and "
            "stands beside each estimate, as a column in the tables and as a cross in the figures.",
        )
    if found:
        notes += (f"The data have faults or doubtful values that can make results wrong. {'; '.join(found)}.",)
    return Document(
        title=plan.study.title,
        subtitle=plan.study.subtitle,
        blocks=blocks,
        facts=tuple(facts),
        notes=notes,
        questions=tuple((q, getattr(plan.study, f"{q}_question")) for q in QUESTIONS),
        provenance=manifests.tables(made),
        created=stamp,
    )


def _arm_sizes(trial: Trial) -> dict[Any, int]:
    frame = trial.adsl if "adsl" in trial else next(iter(trial.datasets.values())).drop_duplicates("USUBJID")
    column = next(c for c in ("TRT01P", "TRT01A", "TRTP", "TRTA", "ARM") if c in frame.columns)
    counts = frame[column].value_counts()
    return {arm: int(counts.get(arm, 0)) for arm in trial.arms}


def _log(plan: Plan, trial: Trial, blocks: tuple[Block, ...], found: tuple[str, ...]) -> str:
    lines = [f"plan {plan.source}: {plan.study.title}", f"data {trial!r}", *(f"  data: {text}" for text in found), ""]
    for block in blocks:
        lines.append(f"[{block.name}] {block.title}")
        lines += [f"  {text}" for text in (block.sentence, *block.methods[-1:]) if text]
        lines += [f"  no estimate: {block.failed}"] * bool(block.failed)
        lines += [f"  warning: {text}" for text in block.warnings]
        lines += [f"  results/{block.name}-{result.name}.csv: {len(result.estimates)} rows" for result in block.results]
        lines.append("")
    return "\n".join(lines)


def to_terminal(text: str) -> None:
    """Progress on standard error when a terminal is there; silence otherwise."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\033[K{text}")
        sys.stderr.flush()
