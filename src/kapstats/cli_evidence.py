"""The commands of what is in print: parse, call ``evidence.commands``, say what it found."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from kapstats.cli import FINE, command, say_json


def _say(found: Any, given: argparse.Namespace, code: int = FINE) -> int:
    """A result on standard output, its warnings on the other stream."""
    if given.json:
        say_json(found.frame.to_dict(orient="records"))
    else:
        print(found.to_text() if len(found) else found.meta["sentence"])
    for text in found.warnings if given.json else ():
        print(f"warning: {text}", file=sys.stderr)
    return code


def _add_audit(commands: Any) -> None:
    more = """\
Columns, any of: study arm term events n percent; mean sd n integer; estimate std_error conf_low conf_high
p_value statistic df scale. A finding is a contradiction under every rounding. Exit code 1 when there is one.

examples:
  kapstats audit table2.csv
  kapstats audit table2.csv --out findings.html
"""
    one = command(commands, "audit", _audit, "look for printed numbers that cannot be right", more)
    one.add_argument("file", metavar="FILE.csv", help="printed results, one claim a row, digits as printed")
    one.add_argument("--out", metavar="FILE", help="findings as .csv or .html")


def _audit(given: argparse.Namespace) -> int:
    from kapstats.evidence.audit import audit, read_claims
    from kapstats.evidence.commands import audit_file

    text, code = audit_file(given.file, given.out)
    if given.json:
        say_json(audit(read_claims(given.file)).frame.to_dict(orient="records"))
    else:
        print(text)
    return code


def _add_reproduce(commands: Any) -> None:
    more = """\
Exit code 1 when a number that should come out to its last printed digit does not.

examples:
  kapstats reproduce                          one line per publication
  kapstats reproduce elekt-d takahashi-2021   every number of these two
  kapstats reproduce --out evidence.html      tables and figures to attach
"""
    one = command(commands, "reproduce", _reproduce, "recompute published results and compare digit by digit", more)
    one.add_argument("ids", nargs="*", metavar="ID", help="entries of the gallery (default: all)")
    one.add_argument("--all", action="store_true", help="all entries")
    one.add_argument("--out", metavar="FILE.html", help="the evidence as one page")


def _reproduce(given: argparse.Namespace) -> int:
    from kapstats.evidence.commands import reproduce

    names = () if given.all else given.ids
    text, code = reproduce(names, given.out)
    if given.json:
        from kapstats.evidence import gallery

        found = [(name, gallery.run(name).to_frame()) for name in (names or gallery.list())]
        say_json([{"id": name, **row} for name, frame in found for row in frame.to_dict(orient="records")])
    else:
        print(text)
    return code


# ------------------------------------------------------------------------------------------------ pool, reconstruct


def _add_pool(commands: Any) -> None:
    more = """\
Columns, one study a row: study and x1 n1 x2 n2 (events of subjects, arm 1 against arm 2); or x n; or
mean1 sd1 n1 mean2 sd2 n2; or estimate std_error, logs for ratios (say --measure OR, RR, HR). Ratios are printed and
drawn as ratios; a .csv has their logs. An .html file has the forest.

examples:
  kapstats pool trials.csv --measure RR
  kapstats pool trials.csv --measure RD --model mantel-haenszel --out forest.html
  kapstats pool estimates.csv --ci normal --out pooled.csv
"""
    one = command(commands, "pool", _pool, "pool published trials (meta-analysis)", more)
    one.add_argument("file", metavar="STUDIES.csv", help="one study a row")
    one.add_argument("--measure", help="RD OR RR AS; SMD MD; logit raw log arcsine freeman-tukey (default: RR, logit)")
    one.add_argument("--model", default="reml", help="such as dl, pm, common, mantel-haenszel, glmm (%(default)s)")
    one.add_argument("--ci", default="hartung-knapp", help="or hartung-knapp-adhoc, normal (default: %(default)s)")
    one.add_argument("--level", type=float, default=0.95, help="confidence level (default: %(default)s)")
    one.add_argument("--out", metavar="FILE", help="result as .csv or .html")


def _pool(given: argparse.Namespace) -> int:
    from kapstats.evidence.commands import pool

    return _say(pool(given.file, given.measure, given.model, given.ci, given.level, given.out), given)


def _add_reconstruct(commands: Any) -> None:
    more = """\
CURVE.csv has the columns time and survival (0 to 1, or percent), and one for the group where there are several.
The table under the figure has time and n_risk, and the group.

examples:
  kapstats reconstruct curve.csv --at-risk 150 --events 61 --out patients.csv
  kapstats reconstruct curve.csv --at-risk risk.csv --events active=24 placebo=41 --method least-squares
"""
    one = command(commands, "reconstruct", _reconstruct, "individual times from a printed survival curve", more)
    one.add_argument("file", metavar="CURVE.csv", help="points clicked on the curve")
    one.add_argument("--at-risk", metavar="FILE.csv", required=True, help="numbers at risk, or the one at the start")
    one.add_argument("--events", nargs="+", default=(), metavar="N", help="events in all: N, or GROUP=N for each group")
    one.add_argument("--method", default="guyot", help="guyot or least-squares (default: %(default)s)")
    one.add_argument("--out", metavar="FILE", help="individual times as .csv or .html")


def _reconstruct(given: argparse.Namespace) -> int:
    from kapstats.evidence.commands import reconstruct

    return _say(reconstruct(given.file, given.at_risk, given.events, given.method, given.out), given)


# ------------------------------------------------------------------------------------------------ fingerprint, pack


def _add_fingerprint(commands: Any) -> None:
    more = """\
Counts and the two limits as printed, of two groups or of one (X1 N1 LOW HIGH); events may be a percentage (55.4%).
A file has the columns x1 n1 x2 n2 low high. Exit code 1 when no method prints a line; the nearest is then named.

examples:
  kapstats fingerprint 108 195 70 170 3.9 24.2
  kapstats fingerprint 60 111 42 108 2.11 28.22 --json
  kapstats fingerprint --csv table3.csv --out methods.csv
"""
    one = command(commands, "fingerprint", _fingerprint, "which methods print this interval for these counts", more)
    one.add_argument("values", nargs="*", metavar="VALUE", help="X1 N1 X2 N2 LOW HIGH")
    one.add_argument("--csv", metavar="FILE", help="one printed interval a row")
    one.add_argument("--digits", type=int, metavar="D", help="decimals that were printed (default: those typed)")
    one.add_argument("--level", type=float, default=0.95, help="level of the interval (default: %(default)s)")
    one.add_argument("--out", metavar="FILE", help="methods as .csv or .html")


def _fingerprint(given: argparse.Namespace) -> int:
    from kapstats.evidence.commands import fingerprint_file, fingerprint_one

    options = {"digits": given.digits, "level": given.level, "out": given.out}
    if given.csv is not None and given.values:
        from kapstats.errors import FormulaError

        raise FormulaError("give counts and limits, or --csv FILE, not both.")
    if given.csv is not None:
        found, code = fingerprint_file(given.csv, **options)
    else:
        found, code = fingerprint_one(given.values, **options)
    return _say(found, given, code)


def _add_pack(commands: Any) -> None:
    more = """\
Columns as of audit and fingerprint: every line is audited, and those with x1 n1 x2 n2 low high are also asked for
their method. Exit code 1 when there is a finding. All rows go beside the page as .csv.

examples:
  kapstats pack table2.csv --out pack.html
  kapstats pack table2.csv --reproduce elekt-d takahashi-2021 --out pack.html
"""
    one = command(commands, "pack", _pack, "findings, methods and reproductions on one page to attach", more)
    one.add_argument("file", metavar="FILE.csv", help="printed results, one claim a row, digits as printed")
    one.add_argument("--out", metavar="PACK.html", required=True, help="page to write; its rows go beside it as .csv")
    one.add_argument("--reproduce", nargs="+", default=(), metavar="ID", help="entries of the gallery to add")
    one.add_argument("--title", default="Evidence pack", help="heading of the page (default: %(default)s)")


def _pack(given: argparse.Namespace) -> int:
    from kapstats.evidence.commands import pack

    files, said, code = pack(given.file, given.out, given.reproduce, given.title)
    if given.json:
        say_json({"files": files, "said": said})
    else:
        print("\n".join([*said, *files]))
    return code


COMMANDS = (_add_audit, _add_fingerprint, _add_pool, _add_reconstruct, _add_reproduce, _add_pack)
