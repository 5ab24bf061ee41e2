"""The evidence on the command line, from ``kapstats audit`` to ``kapstats pack``: csv in, csv and html out."""

from __future__ import annotations

import html
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from kapstats import estimates
from kapstats.data import delimited
from kapstats.errors import DataError, FormulaError, KapstatsWarning, check_level, nearest
from kapstats.estimates import Estimates
from kapstats.evidence import gallery
from kapstats.evidence.audit import audit, read_claims
from kapstats.evidence.columns import JUDGED
from kapstats.evidence.fingerprint import fingerprint
from kapstats.evidence.gallery.page import render_page, render_svg, scrolled, write_page
from kapstats.evidence.meta_analysis import meta_analysis
from kapstats.evidence.pack import write_pack
from kapstats.evidence.reconstruct import reconstruct_ipd

COUNTS = ("x1", "n1", "x2", "n2")
LIMITS = (("low", "high"), ("conf_low", "conf_high"))


def reproduce(names: Sequence[str] = (), out: str | Path | None = None) -> tuple[str, int]:
    """The text to print and the exit code: 0 when every exact line agrees, 1 otherwise.

    Parameters
    ----------
    names : entries of the gallery by name or id; none for all
    out : an .html file for the evidence pack (its lines go beside it as .csv)

    Examples
    --------
    >>> text, code = reproduce(["G05"])
    >>> code, "ELEKT-D" in text
    (0, True)
    """
    _can_write(out, (".html",))
    found = [gallery.run(name) for name in (names or gallery.available())]
    if out is not None:
        write_page(found, out)
    exact = [line for r in found for line in r.lines if line.kind == "exact"]
    wrong = [line for line in exact if not line.agrees]
    said = f"{len(exact) - len(wrong)} of {len(exact)} printed numbers reproduced to their last digit."
    if names:
        return "\n\n".join([*(r.to_text() for r in found), said]), int(bool(wrong))
    rows = [_summary(r) for r in found]
    left = [f"{e.id}  not run: pip install {e.needs}" for e in gallery.ENTRIES if not e.available]
    return "\n".join([*rows, *left, said]), int(bool(wrong))


def _summary(r: gallery.Reproduction) -> str:
    """One line per entry: how many of the numbers that have to agree do, and what the others are."""
    exact = [line for line in r.lines if line.kind == "exact"]
    others = [f"{sum(x.kind == kind for x in r.lines)} {kind}" for kind in ("calibration", "misprint")]
    shown = ", ".join(text for text in others if not text.startswith("0 "))
    said = f"{sum(x.agrees for x in exact)} of {len(exact)}" if exact else "-"
    return f"{r.entry.id:<5} {r.verdict:<10} {said:<10} {r.entry.title}{f' ({shown})' if shown else ''}"


def audit_file(path: str | Path, out: str | Path | None = None) -> tuple[str, int]:
    """Audit the printed lines in a csv; the text to print and the exit code: 0 without findings, 1 with.

    Parameters
    ----------
    path : a csv with the columns that `audit` reads; every cell is read as text, so that printed digits are kept
    out : a .csv or .html file for the findings

    Raises
    ------
    DataError
        When the file is missing, is no csv, or has no column to judge.
    """
    _can_write(out)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", KapstatsWarning)  # they stay on the result
        found = audit(read_claims(path))
    _write(found, out, "Audit of printed results")
    return (found.to_text() if len(found) else found.meta["sentence"]), int(len(found) > 0)


def pool(
    path: str | Path,
    measure: str | None = None,
    model: str = "reml",
    ci: str = "hartung-knapp",
    level: float = 0.95,
    out: str | Path | None = None,
) -> Estimates:
    """The pooled effect of the studies in a csv; written to a .csv, or to an .html with the forest.

    Raises
    ------
    DataError
        When the file is missing or is no table of studies, or `out` cannot be written.
    """
    _can_write(out)
    check_level(level, "--level")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", KapstatsWarning)  # they stay on the result
        found = meta_analysis(_table(path), measure, model, ci, level=level)
    _write(found, out, found.meta["title"], figure=True)
    return found


def reconstruct(
    path: str | Path,
    at_risk: str | Path,
    events: Sequence[str] = (),
    method: str = "guyot",
    out: str | Path | None = None,
) -> Estimates:
    """Individual times from clicks in a csv; `at_risk` is a csv or a number, `events` "61" or "placebo=41" a group.

    Raises
    ------
    DataError
        When a file is missing or is no curve, a group is not in the curve, or `out` cannot be written.
    """
    _can_write(out)
    curve = _table(path)
    number = str(at_risk).strip()
    risk = int(number) if number.isdigit() and not Path(number).is_file() else _table(at_risk)
    _are_numbers(curve, Path(path).name, ("time", "survival"))
    if isinstance(risk, pd.DataFrame):
        _are_numbers(risk, Path(at_risk).name, ("time", "n_risk"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", KapstatsWarning)  # they stay on the result
        found = reconstruct_ipd(curve, risk, _events(events, curve), method=method)
    _write(found, out, found.meta["title"])
    return found


def _events(given: Sequence[str], curve: pd.DataFrame) -> int | dict[Any, int] | None:
    """Total events: one number, or one per group by the values that the curve has."""
    if not given:
        return None
    if len(given) == 1 and given[0].isdigit():
        return int(given[0])
    values = {str(v): v for c in curve.columns for v in curve[c].dropna().unique() if c not in ("time", "survival")}
    total: dict[Any, int] = {}
    for text in given:
        name, mark, number = text.rpartition("=")
        if not mark or not number.isdigit():
            raise FormulaError(f"--events {text}: say a whole number, or GROUP=N for each group.")
        if name not in values:
            raise DataError(f"--events {text}: the curve has no group {name!r}.{nearest(name, values)}")
        total[values[name]] = int(number)
    return total


def fingerprint_one(
    values: Sequence[str], digits: int | None = None, level: float = 0.95, out: str | Path | None = None
) -> tuple[Estimates, int]:
    """Methods that print X1 N1 X2 N2 LOW HIGH (or X1 N1 LOW HIGH); exit code 1 when there is none.

    Examples
    --------
    >>> found, code = fingerprint_one(["60", "111", "42", "108", "2.11", "28.22"])
    >>> code, found["method"].tolist()
    (0, ['wald'])
    """
    _can_write(out)
    if len(values) not in (4, 6):
        raise FormulaError(f"X1 N1 X2 N2 LOW HIGH (or X1 N1 LOW HIGH) are 6 (or 4) values, {len(values)} are given.")
    found = _fingerprint([*values[:-2], *([None] * (6 - len(values))), *values[-2:]], digits, level)
    _write(found, out, "Methods that print this result")
    return found, int(not len(found))


def fingerprint_file(
    path: str | Path, digits: int | None = None, level: float = 0.95, out: str | Path | None = None
) -> tuple[Estimates, int]:
    """Methods that print the interval of each row of a csv; exit code 1 when one of them has none.

    Rows without a method have the nearest one, with `prints` False.
    """
    _can_write(out)
    frame = read_claims(path)
    found = _fingerprints(frame, digits, level)
    if not found:
        raise DataError(f"{Path(path).name}: needs the columns x1 n1 x2 n2 low high, filled in one row at least.")
    parts = []
    for name, one in found.items():
        best = pd.DataFrame([one.meta["nearest"]]) if not len(one) else one.frame
        best = best.drop(columns=[c for c in ("distance", "p_value") if c in best])
        best.insert(0, "line", name)
        parts.append(best.assign(prints=bool(len(one))))
    lost = [name for name, one in found.items() if not len(one)]
    sentence = f"{len(found) - len(lost)} of {len(found)} printed intervals have a method that prints them."
    about = estimates.meta(method="method fingerprint", level=level, title="Methods", sentence=sentence, data=frame)
    table = Estimates(pd.concat(parts, ignore_index=True), about)
    _write(table, out, "Methods that print these results")
    return table, int(bool(lost))


def _fingerprints(frame: pd.DataFrame, digits: int | None = None, level: float = 0.95) -> dict[str, Estimates]:
    """Fingerprints of the rows that have counts and limits, by line number and what the row is about."""
    limits = next((pair for pair in LIMITS if set(pair) <= set(frame.columns)), None)
    if limits is None or not {"x1", "n1"} <= set(frame.columns):
        return {}
    columns = [*COUNTS, *limits]
    whole = frame.reindex(columns=columns).astype(object)
    whole = whole.where(whole.notna(), None)
    found = {}
    for i, row in enumerate(whole.itertuples(index=False, name=None)):
        there = [value is not None for value in row]
        if there not in ([True] * 6, [True, True, False, False, True, True]):
            if any(there[j] for j in (0, 1, 2, 3)):
                gaps = ", ".join(c for c, t in zip(columns, there, strict=True) if not t)
                raise DataError(f"row {i + 1}: {gaps} missing; an interval needs {' '.join(columns)}.")
            continue
        about = [frame[c].iloc[i] for c in ("study", "term", "outcome") if c in frame]
        try:
            found[" ".join([f"{i + 1}", *(str(a) for a in about if pd.notna(a))])] = _fingerprint(row, digits, level)
        except DataError as error:
            raise DataError(f"row {i + 1}: {error}") from error
    return found


def _fingerprint(row: Sequence[Any], digits: int | None, level: float) -> Estimates:
    """The fingerprint of x1 n1 x2 n2 low high, each as text or None."""
    check_level(level, "--level")
    x1, x2 = (_count(v, c, percent=True) for v, c in ((row[0], "x1"), (row[2], "x2")))
    n1, n2 = (_count(v, c) for v, c in ((row[1], "n1"), (row[3], "n2")))
    low, high = row[4], row[5]
    if digits is not None:
        if digits < 0:
            raise FormulaError(f"--digits {digits}: decimals are at least 0.")
        low, high = _number(low), _number(high)
    return fingerprint(x1, n1, x2, n2, (low, high), 2 if digits is None else digits, level=level)


def _count(text: str | None, name: str, percent: bool = False) -> Any:
    if text is None or (percent and text.strip().endswith("%")):
        return text
    if not text.strip().isdigit() or (not percent and int(text) == 0):
        raise DataError(f"{name}: {text!r} is no count{', and no percentage' if percent else ' of at least 1'}.")
    return int(text)


def _number(text: str) -> float:
    try:
        return float(text.replace("−", "-"))
    except ValueError as error:
        raise DataError(f"{text!r} is no number.") from error


def pack(
    path: str | Path, out: str | Path, reproductions: Sequence[str] = (), title: str = "Evidence pack"
) -> tuple[list[str], list[str], int]:
    """The evidence pack of one csv of claims: files written, what they say, and the exit code (1 with findings).

    Lines are audited; those with ``x1 n1 x2 n2 low high`` (or ``conf_low conf_high``) also have their fingerprint.
    """
    _can_write(out, (".html",))
    frame = read_claims(path)
    prints = _fingerprints(frame)
    judged = set(JUDGED) & set(frame.columns)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", KapstatsWarning)  # they stay on the result
        found = audit(frame) if judged or not prints else None
    page = write_pack(
        out, audit=found, fingerprints=prints, reproductions=[gallery.run(name) for name in reproductions], title=title
    )
    said = [] if found is None else [found.meta["sentence"]]
    said += [f"line {name}: {one.meta['sentence']}" for name, one in prints.items()]
    lost = any(not len(one) for one in prints.values())
    return [str(page), str(page.with_suffix(".csv"))], said, int(lost or (found is not None and len(found) > 0))


def _table(path: str | Path) -> pd.DataFrame:
    """A csv with typed columns."""
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: no such file.")
    frame = delimited.read(path)
    if frame.empty:
        raise DataError(f"{path.name}: there is no row below the header.")
    return frame


def _are_numbers(frame: pd.DataFrame, source: str, columns: Sequence[str]) -> None:
    for name in columns:
        if name in frame and not pd.api.types.is_numeric_dtype(frame[name].dtype):
            bad = frame.loc[pd.to_numeric(frame[name], errors="coerce").isna(), name]
            raise DataError(f"{source}: {name} holds text in {len(bad)} rows ({', '.join(map(str, bad[:5]))}).")


def _can_write(out: str | Path | None, endings: Sequence[str] = (".csv", ".html")) -> None:
    """Whether `out` is a place for a result, asked before anything is computed."""
    if out is None:
        return
    path = Path(out)
    if path.suffix.lower() not in endings:
        raise DataError(f"--out {path}: the name has to end in {' or '.join(endings)}.")
    if not path.parent.is_dir():
        raise DataError(f"--out {path}: there is no folder {path.parent}.")


def _write(found: Estimates, out: str | Path | None, title: str, figure: bool = False) -> None:
    """A result as csv (text that a spreadsheet would run is quoted) or as one html page."""
    if out is None:
        return
    path = Path(out)
    if path.suffix.lower() == ".html":
        sentence = found.meta["sentence"]
        drawn = render_svg(found.plot().figure, title, sentence, "figure") if figure else ""
        body = scrolled(found.to_html(), title) if len(found) else f"<p>{html.escape(sentence)}</p>"
        path.write_text(render_page(title, "", body + drawn), encoding="utf-8")
        return
    frame = found.frame.copy()
    for name in frame.columns:
        if not pd.api.types.is_numeric_dtype(frame[name].dtype):
            frame[name] = frame[name].map(lambda v: f"'{v}" if isinstance(v, str) and v[:1] in "=@\t\r" and v else v)
    frame.to_csv(path, index=False)
