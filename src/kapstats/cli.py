"""The command line: parse, call the pipeline, say what happened. No statistics here.

Everything heavy is imported inside the command that needs it, so that ``kapstats --help`` answers at once.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

FINE, DIFFERENT, BAD = 0, 1, 2
DESCRIPTION = "Response, relapse and side effects in trials of ketamine-assisted psychotherapy."
EPILOG = """exit codes: 0 fine; 1 warnings under --strict, findings or differences; 2 bad input (nothing was written)

examples:
  kapstats run                               the built-in simulated trial; opens as kapstats-output/report.html
  kapstats run plans/cdisc-pilot.toml        a real trial
  kapstats init adam/ > plan.toml            draw up a plan from a folder of ADaM files
  kapstats run plan.toml --data adam/        run it
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    from kapstats.errors import KapstatsError

    parsed = parser().parse_args(arguments)
    if parsed.command is None:
        parser().print_help()
        return FINE
    try:
        return int(parsed.call(parsed))
    except KapstatsError as error:
        print(f"kapstats {parsed.command}: {error}", file=sys.stderr)
        return BAD
    except BrokenPipeError:
        sys.stderr.close()
        return FINE
    except KeyboardInterrupt:
        print("\nkapstats: interrupted; nothing was changed.", file=sys.stderr)
        return 130
    except Exception as error:
        if os.environ.get("KAPSTATS_DEBUG"):
            raise
        said = f"unexpected {type(error).__name__}: {error}. Nothing was written. This should have been told better"
        print(f"kapstats {parsed.command}: {said}; KAPSTATS_DEBUG=1 shows where it happened.", file=sys.stderr)
        return BAD


def parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    from kapstats import __version__

    top = argparse.ArgumentParser(
        prog="kapstats", description=DESCRIPTION, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    top.add_argument("--version", action="version", version=f"kapstats {__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    for add in (_add_run, _add_check, _add_init, _add_simulate, _add_diff, _add_audit, _add_reproduce, _add_certify):
        add(commands)
    return top


def _command(commands: Any, name: str, call: Callable[[argparse.Namespace], int], summary: str, more: str) -> Any:
    made = commands.add_parser(
        name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.", epilog=more,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    made.set_defaults(call=call)
    return made


# ------------------------------------------------------------------------------------------------ run


def _add_run(commands: Any) -> None:
    more = "Writes report.html, results/*.csv, figures/*.svg, manifest.json and run.log, all or nothing."
    one = _command(commands, "run", _run, "run the analyses of a plan and write a report", more)
    one.add_argument("plan", nargs="?", metavar="PLAN", help="TOML file or built-in plan (default: kap-parallel)")
    one.add_argument("--data", metavar="DIR", help="folder of ADaM files (default: the data that the plan names)")
    one.add_argument("--out", metavar="DIR", default="kapstats-output", help="folder to write (default: %(default)s)")
    one.add_argument("--strict", action="store_true", help="exit code 1 when there is any warning")
    one.add_argument("--json", action="store_true", help="say what was done as JSON on standard output")


def _run(given: argparse.Namespace) -> int:
    from kapstats.pipeline.run import run, to_terminal

    done = run(given.plan, given.data, given.out, progress=to_terminal)
    to_terminal("")
    report = str(done.folder / "report.html") if done.folder else ""
    if given.json:
        answers = {b.name: [{"lead": a.lead, "lines": dict(a.lines)} for a in b.answers] for b in done.blocks}
        _json({"report": report, "warnings": done.warnings, "answers": answers, "files": sorted(done.files)})
    else:
        print(_said(done.blocks))
        print(report)
    for text in done.warnings:
        print(f"warning: {text}", file=sys.stderr)
    return DIFFERENT if given.strict and done.warnings else FINE


def _said(blocks: Any) -> str:
    """The answers as text."""
    lines = []
    for block in blocks:
        lines.append(f"{block.title}" + (f": no estimate. {block.failed}" if block.failed else ""))
        for answer in block.answers:
            width = max((len(label) for label, _ in answer.lines), default=0)
            lines.append(f"  {answer.lead}")
            lines += [f"    {label:<{width}}  {value}" for label, value in answer.lines]
        lines.append("")
    return "\n".join(lines)


# ------------------------------------------------------------------------------------------------ check, init, simulate


def _add_check(commands: Any) -> None:
    more = "Exit code 1 when there is an error among the findings; with --strict, also for warnings and notes."
    one = _command(commands, "check", _check, "find what is wrong or doubtful in a folder of ADaM files", more)
    one.add_argument("data", metavar="DIR", help="folder of ADaM files")
    one.add_argument("--strict", action="store_true", help="exit code 1 for any finding")
    one.add_argument("--json", action="store_true", help="findings as JSON on standard output")


def _check(given: argparse.Namespace) -> int:
    from kapstats.data.readers import read_adam

    found = read_adam(given.data).check()
    frame = found.frame
    if given.json:
        _json(frame.to_dict(orient="records"))
    else:
        print(found.to_text() if len(frame) else found.meta["sentence"])
    return DIFFERENT if (frame["severity"] == "error").any() or (given.strict and len(frame)) else FINE


def _add_init(commands: Any) -> None:
    more = "The plan goes to standard output, or to --out; an existing file is never overwritten."
    one = _command(commands, "init", _init, "draw up a commented plan from a folder of ADaM files", more)
    one.add_argument("data", metavar="DIR", help="folder of ADaM files")
    one.add_argument("--out", metavar="PLAN.toml", help="file to write")


def _init(given: argparse.Namespace) -> int:
    from kapstats.data.readers import read_adam
    from kapstats.errors import DataError
    from kapstats.pipeline.draft import draft
    from kapstats.pipeline.plan import parse

    if given.out and Path(given.out).exists():
        raise DataError(f"{given.out} exists already. Choose another --out.")
    text = draft(read_adam(given.data), file=given.out or "plan.toml", folder=given.data)
    parse(text, given.out or "plan.toml")
    if not given.out:
        print(text, end="")
        return FINE
    try:
        with Path(given.out).open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise DataError(f"{given.out} cannot be written: {error.strerror}.") from error
    print(given.out)
    return FINE


def _add_simulate(commands: Any) -> None:
    more = "Writes ADaM CSV files, truth.json (the true value of every estimand), scenario.toml and checksums."
    one = _command(commands, "simulate", _simulate, "draw a synthetic trial whose truth is known", more)
    one.add_argument("scenario", metavar="SCENARIO", help="built-in scenario (kap-parallel) or TOML file")
    one.add_argument("--out", metavar="DIR", required=True, help="folder to write")
    one.add_argument("--subjects", type=int, metavar="N", help="number of subjects (default: the scenario's)")
    one.add_argument("--seed", type=int, default=1, help="the same seed gives the same trial (default: %(default)s)")


def _simulate(given: argparse.Namespace) -> int:
    from kapstats.errors import DataError
    from kapstats.simulation.adam import write
    from kapstats.simulation.scenario import resolve, simulate

    out = Path(given.out)
    if out.exists() and (not out.is_dir() or (not (out / "truth.json").exists() and any(out.iterdir()))):
        raise DataError(f"{out} holds something else than a simulated trial. Choose another --out.")
    scenario = resolve(given.scenario)
    print(write(simulate(scenario, n=given.subjects, seed=given.seed), out, scenario))
    return FINE


# ------------------------------------------------------------------------------------------------ diff, certify


def _add_diff(commands: Any) -> None:
    more = "B may also be a CSV file of expected values: a column `table` (madrs-differences), keys, numbers."
    one = _command(commands, "diff", _diff, "compare two outputs, number by number", more)
    one.add_argument("first", metavar="A", help="folder that kapstats run wrote")
    one.add_argument("second", metavar="B", help="another one, or a CSV file of expected values")
    one.add_argument("--tolerance", type=float, default=1e-8, help="absolute and relative (default: %(default)s)")
    one.add_argument("--json", action="store_true", help="differences as JSON on standard output")


def _diff(given: argparse.Namespace) -> int:
    from kapstats.pipeline.compare import compare

    found = compare(given.first, given.second, tolerance=given.tolerance)
    if given.json:
        _json(found.frame.to_dict(orient="records"))
    else:
        print(found.to_text() if len(found) else found.meta["sentence"])
    return DIFFERENT if len(found) else FINE


def _add_certify(commands: Any) -> None:
    more = "Replicates already in --out are not computed again."
    one = _command(commands, "certify", _certify, "measure bias, coverage and error rates of an estimator", more)
    one.add_argument("estimator", metavar="ESTIMATOR", help="name of an estimator, such as mmrm")
    one.add_argument("scenario", metavar="SCENARIO", nargs="?", default="kap-parallel", help="default: %(default)s")
    one.add_argument("--replicates", type=int, default=1000, metavar="N", help="trials to draw (default: %(default)s)")
    one.add_argument("--workers", type=int, default=None, metavar="N", help="processes (default: this one alone)")
    one.add_argument("--seed", type=int, default=1, help="default: %(default)s")
    one.add_argument("--out", metavar="DIR", help="folder that keeps finished chunks")
    one.add_argument("--json", action="store_true", help="the table as JSON on standard output")


def _certify(given: argparse.Namespace) -> int:
    from kapstats.certification.study import certify

    found = certify(
        given.estimator,
        given.scenario,
        replicates=given.replicates,
        executor=given.workers,
        seed=given.seed,
        out=given.out,
    )
    if given.json:
        _json(found.frame.to_dict(orient="records"))
    else:
        print(found.to_text())
    return FINE


# ------------------------------------------------------------------------------------------------ audit, reproduce


def _add_audit(commands: Any) -> None:
    more = "Columns, any of: study arm term events n percent; mean sd n integer; estimate conf_low conf_high p_value."
    one = _command(commands, "audit", _audit, "look for printed numbers that cannot be right", more)
    one.add_argument("file", metavar="FILE.csv", help="printed results, one claim a row, digits as printed")
    one.add_argument("--out", metavar="FILE", help="findings as .csv or .html")


def _audit(given: argparse.Namespace) -> int:
    from kapstats.evidence.commands import audit_file

    text, code = audit_file(given.file, given.out)
    print(text)
    return code


def _add_reproduce(commands: Any) -> None:
    more = "Exit code 1 when a number that should come out to its last printed digit does not."
    one = _command(commands, "reproduce", _reproduce, "recompute published results and compare digit by digit", more)
    one.add_argument("ids", nargs="*", metavar="ID", help="entries of the gallery (default: all)")
    one.add_argument("--all", action="store_true", help="all entries")
    one.add_argument("--out", metavar="FILE.html", help="the evidence as one page")


def _reproduce(given: argparse.Namespace) -> int:
    from kapstats.evidence.commands import reproduce

    text, code = reproduce(() if given.all else given.ids, given.out)
    print(text)
    return code


def _json(value: Any) -> None:
    """JSON on standard output; what is not a number becomes null."""

    def plain(item: Any) -> Any:
        if isinstance(item, dict):
            return {str(k): plain(v) for k, v in item.items()}
        if isinstance(item, list | tuple):
            return [plain(v) for v in item]
        if hasattr(item, "item"):
            item = item.item()
        return None if item is None or item != item or item in (float("inf"), float("-inf")) else item

    print(json.dumps(plain(value), indent=2, ensure_ascii=False, default=str))
