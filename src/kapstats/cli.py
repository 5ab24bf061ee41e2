"""The command line: parse, call the pipeline, say what happened. No statistics here.

Everything heavy is imported inside the command that needs it, so that ``kapstats --help`` answers at once.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

FINE, DIFFERENT, BAD = 0, 1, 2
DESCRIPTION = "Response, relapse and side effects in trials of ketamine-assisted psychotherapy."
EPILOG = """exit codes: 0 fine; 1 warnings under --strict, findings or differences; 2 bad input (nothing was written)

examples:
  kapstats run                               the built-in simulated trial; opens as kapstats-output/report.html
  kapstats run plans/cdisc-pilot.toml        a real trial
  kapstats init adam/ > plan.toml            draw up a plan from a folder of ADaM files
  kapstats run plan.toml --data adam/        run it
  kapstats pool trials.csv --out forest.html pool published trials; then audit, fingerprint, reconstruct, pack
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
        return _failed(parsed, error, str(error))
    except BrokenPipeError:
        sys.stderr.close()
        return FINE
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        return _failed(parsed, error, f"{place}{error.strerror or error}.")
    except KeyboardInterrupt:
        print("\nkapstats: interrupted; nothing was changed.", file=sys.stderr)
        return 130
    except Exception as error:
        if os.environ.get("KAPSTATS_DEBUG"):
            raise
        said = f"unexpected {type(error).__name__}: {error}. Nothing was written. This should have been told better"
        return _failed(parsed, error, f"{said}; KAPSTATS_DEBUG=1 shows where it happened.")


def _failed(parsed: argparse.Namespace, error: Exception, said: str) -> int:
    """The error in words on standard error, and as JSON on standard output where the command was asked for JSON."""
    print(f"kapstats {parsed.command}: {said}", file=sys.stderr)
    if getattr(parsed, "json", False):
        say_json({"error": type(error).__name__, "message": said})
    return BAD


class _Parser(argparse.ArgumentParser):
    """Says the nearest command or option for a misspelt one."""

    def error(self, message: str) -> NoReturn:
        from kapstats.errors import nearest

        said = re.search(r"invalid choice: '(.*?)' \(choose from (.*)\)|unrecognized arguments: (\S+)", message)
        if said is not None and said[1] is not None:
            message = f"there is no command {said[1]!r}.{nearest(said[1], re.findall(r'[a-z]+', said[2]))}"
        elif said is not None:
            options = [o for p in (self, *_chosen(self)) for a in p._actions for o in a.option_strings]
            message += f".{nearest(said[3], options)}"
        end = "" if message.endswith((".", "?")) else "."
        super().error(f"{message}{end} See: {self.prog} --help")


def _chosen(top: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    """The parser of the command that was typed, which argparse does not hand to `error`."""
    commands = next((a.choices for a in top._actions if isinstance(a, argparse._SubParsersAction)), {})
    return [made for name, made in commands.items() if name in sys.argv]


def parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    from kapstats import __version__, cli_evidence

    top = _Parser(
        prog="kapstats", description=DESCRIPTION, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    top.add_argument("--version", action="version", version=f"kapstats {__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", title="commands", parser_class=_Parser)
    ours = (_add_run, _add_check, _add_init, _add_simulate, _add_diff, _add_certify)
    for add in (*ours, *cli_evidence.COMMANDS):
        add(commands)
    return top


def command(commands: Any, name: str, call: Callable[[argparse.Namespace], int], summary: str, more: str) -> Any:
    """The parser of one command, with what all of them have."""
    made = commands.add_parser(
        name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.", epilog=more,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    made.set_defaults(call=call)
    made.add_argument("--json", action="store_true", help="say what was found as JSON on standard output")
    return made


def _at_least(low: int) -> Callable[[str], int]:
    def whole(text: str) -> int:
        if not text.strip().lstrip("-").isdigit() or int(text) < low:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least {low}")
        return int(text)

    return whole


def _tolerance(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of at least 0")
    return value


# ------------------------------------------------------------------------------------------------ run


def _add_run(commands: Any) -> None:
    more = """\
Writes report.html, results/*.csv, figures/*.svg, manifest.json, run.log and, where the plan has
[documents], tables/*: all or nothing.

examples:
  kapstats run                                        the built-in trial and plan
  kapstats run plan.toml --data adam/ --out result/   your plan on your data
  kapstats run plan.toml --data adam/ --strict        exit code 1 when there is a warning
  kapstats run --json | jq .answers                   the answers for another program
"""
    one = command(commands, "run", _run, "run the analyses of a plan and write a report", more)
    one.add_argument("plan", nargs="?", metavar="PLAN", help="TOML file or built-in plan (default: kap-parallel)")
    one.add_argument("--data", metavar="DIR", help="folder of ADaM files (default: the data that the plan names)")
    one.add_argument("--encoding", metavar="NAME", help="of text files, such as cp1252 (default: UTF-8)")
    one.add_argument("--out", metavar="DIR", default="kapstats-output", help="folder to write (default: %(default)s)")
    one.add_argument("--strict", action="store_true", help="exit code 1 when there is any warning")


def _run(given: argparse.Namespace) -> int:
    from kapstats.pipeline.run import run, to_terminal

    done = run(given.plan, given.data, given.out, encoding=given.encoding, progress=to_terminal)
    to_terminal("")
    report = str(done.folder / "report.html") if done.folder else ""
    if given.json:
        answers = {b.name: [{"lead": a.lead, "lines": dict(a.lines)} for a in b.answers] for b in done.blocks}
        say_json({"report": report, "warnings": done.warnings, "answers": answers, "files": sorted(done.files)})
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
    more = """\
Exit code 1 when there is an error among the findings; with --strict, also for warnings and notes.
Nothing is repaired. A finding names dataset, variable, rule, how many rows and the first subjects.

examples:
  kapstats check adam/
  kapstats check adam/ --strict --json > findings.json
"""
    one = command(commands, "check", _check, "find what is wrong or doubtful in a folder of ADaM files", more)
    one.add_argument("data", metavar="DIR", help="folder of ADaM files")
    one.add_argument("--encoding", metavar="NAME", help="of text files, such as cp1252 (default: UTF-8)")
    one.add_argument("--strict", action="store_true", help="exit code 1 for any finding")


def _check(given: argparse.Namespace) -> int:
    from kapstats.data.readers import read_adam

    found = read_adam(given.data, encoding=given.encoding).check()
    frame = found.frame
    if given.json:
        say_json(frame.to_dict(orient="records"))
    else:
        print(found.to_text() if len(frame) else found.meta["sentence"])
    return DIFFERENT if (frame["severity"] == "error").any() or (given.strict and len(frame)) else FINE


def _add_init(commands: Any) -> None:
    more = """\
The plan goes to standard output, or to --out; an existing file is never overwritten. Read it before you run
it: it holds what the data suggest, not what was promised in the protocol.

examples:
  kapstats init adam/                      to the screen
  kapstats init adam/ --out plan.toml      then: kapstats run plan.toml --data adam/
"""
    one = command(commands, "init", _init, "draw up a commented plan from a folder of ADaM files", more)
    one.add_argument("data", metavar="DIR", help="folder of ADaM files")
    one.add_argument("--encoding", metavar="NAME", help="of text files, such as cp1252 (default: UTF-8)")
    one.add_argument("--out", metavar="PLAN.toml", help="file to write")


def _init(given: argparse.Namespace) -> int:
    from kapstats.data.readers import read_adam
    from kapstats.errors import DataError
    from kapstats.pipeline.draft import draft
    from kapstats.pipeline.plan import parse

    if given.out and Path(given.out).exists():
        raise DataError(f"{given.out} exists already. Choose another --out.")
    text = draft(read_adam(given.data, encoding=given.encoding), file=given.out or "plan.toml", folder=given.data)
    parse(text, given.out or "plan.toml")
    if given.out:
        with Path(given.out).open("x", encoding="utf-8") as file:
            file.write(text)
    if given.json:
        say_json({"plan": given.out, "text": text})
    else:
        print(given.out or text.rstrip("\n"))
    return FINE


def _add_simulate(commands: Any) -> None:
    more = """\
Writes ADaM CSV files, truth.json (the true value of every estimand), scenario.toml and checksums.
NAME-null is the twin of a scenario in which no arm differs in anything.

examples:
  kapstats simulate kap-parallel --out trial/
  kapstats simulate kap-withdrawal-null --subjects 80 --seed 7 --out null/
  kapstats run --data trial/                analyse what was drawn
"""
    one = command(commands, "simulate", _simulate, "draw a synthetic trial whose truth is known", more)
    one.add_argument("scenario", metavar="SCENARIO", help="built-in scenario (kap-parallel) or TOML file")
    one.add_argument("--out", metavar="DIR", required=True, help="folder to write")
    one.add_argument("--subjects", type=_at_least(1), metavar="N", help="number of subjects (default: the scenario's)")
    one.add_argument("--seed", type=_at_least(0), default=1, help="same seed, same trial (default: %(default)s)")


def _simulate(given: argparse.Namespace) -> int:
    from kapstats.data import output
    from kapstats.simulation.adam import listed, write
    from kapstats.simulation.scenario import resolve, simulate

    output.check(given.out, listed)
    scenario = resolve(given.scenario)
    trial = simulate(scenario, n=given.subjects, seed=given.seed)
    folder = write(trial, given.out, scenario)
    if given.json:
        files = sorted(p.name for p in folder.iterdir())
        say_json({"folder": str(folder), "subjects": trial.n_subjects, "seed": given.seed, "files": files})
    else:
        print(folder)
    return FINE


# ------------------------------------------------------------------------------------------------ diff, certify


def _add_diff(commands: Any) -> None:
    more = """\
B may also be a CSV file of expected values: a column `table` (such as madrs-differences), the columns that
identify rows, and numbers. What only one side has is not held against the other. Exit code 1 when something differs.

examples:
  kapstats diff kapstats-output/ another-run/
  kapstats diff kapstats-output/ colleague.csv --tolerance 1e-6
"""
    one = command(commands, "diff", _diff, "compare two outputs, number by number", more)
    one.add_argument("first", metavar="A", help="folder that kapstats run wrote")
    one.add_argument("second", metavar="B", help="another one, or a CSV file of expected values")
    one.add_argument(
        "--tolerance", type=_tolerance, metavar="T", default=1e-8, help="absolute and relative (%(default)s)"
    )


def _diff(given: argparse.Namespace) -> int:
    from kapstats.pipeline.compare import compare

    found = compare(given.first, given.second, tolerance=given.tolerance)
    if given.json:
        say_json(found.frame.to_dict(orient="records"))
    else:
        print(found.to_text() if len(found) else found.meta["sentence"])
    return DIFFERENT if len(found) else FINE


def _add_certify(commands: Any) -> None:
    more = """\
Draws trials from a scenario whose truth is known, analyses each, and compares. Finished replicates are kept in
--out and are not computed again; results do not depend on the number of workers.

examples:
  kapstats certify mmrm kap-parallel --replicates 200
  kapstats certify kaplan_meier kap-withdrawal --replicates 5000 --workers 4 --out chunks/
  kapstats certify logrank kap-parallel-null        the type I error
  kapstats certify cox --replicates 50 --path verb  every trial through ks.cox
"""
    one = command(commands, "certify", _certify, "measure bias, coverage and error rates of an estimator", more)
    one.add_argument("estimator", metavar="ESTIMATOR", help="name of an estimator, such as mmrm")
    one.add_argument("scenario", metavar="SCENARIO", nargs="?", default="kap-parallel", help="default: %(default)s")
    one.add_argument("--replicates", type=_at_least(1), default=1000, metavar="N", help="trials (default: %(default)s)")
    one.add_argument("--workers", type=_at_least(1), default=None, metavar="N", help="processes (default: this one)")
    one.add_argument("--seed", type=_at_least(0), default=1, help="default: %(default)s")
    one.add_argument(
        "--path", choices=("batch", "verb"), default="batch",
        help="verb: every trial through the exported function, from its table (default: %(default)s)",
    )  # fmt: skip
    one.add_argument("--out", metavar="DIR", help="folder that keeps finished chunks")


def _certify(given: argparse.Namespace) -> int:
    from kapstats.certification.study import certify

    found = certify(
        given.estimator,
        given.scenario,
        replicates=given.replicates,
        executor=given.workers,
        seed=given.seed,
        out=given.out,
        path=given.path,
    )
    if given.json:
        say_json(found.frame.to_dict(orient="records"))
    else:
        print(found.to_text())
    return FINE


def say_json(value: Any) -> None:
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
