"""The evidence on the command line: ``kapstats reproduce`` and ``kapstats audit``; csv in, csv and html out."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from kapstats.data.delimited import MISSING
from kapstats.errors import DataError
from kapstats.estimates import Estimates
from kapstats.evidence import gallery
from kapstats.evidence.audit import audit
from kapstats.evidence.gallery.page import STYLE, write_page


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
    found = [gallery.run(name) for name in (names or gallery.available())]
    if out is not None:
        write_page(found, out)
    exact = [line for r in found for line in r.lines if line.kind == "exact"]
    wrong = [line for line in exact if not line.agrees]
    said = f"{len(exact) - len(wrong)} of {len(exact)} printed numbers reproduced to their last digit."
    if names:
        return "\n\n".join([*(r.to_text() for r in found), said]), int(bool(wrong))
    rows = [_summary(r) for r in found]
    left = [f"{e.id}  not run: needs the package {e.needs}" for e in gallery.ENTRIES if not e.available]
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
    found = audit(read_claims(path))
    if out is not None:
        write_findings(found, Path(out))
    return (found.to_text() if len(found) else found.meta["sentence"]), int(len(found) > 0)


def read_claims(path: str | Path) -> pd.DataFrame:
    """A csv of printed lines, every cell as text."""
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: no such file.")
    try:
        return pd.read_csv(path, dtype=str, keep_default_na=False, na_values=MISSING, encoding="utf-8-sig")
    except (UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise DataError(f"{path.name}: this is no csv in UTF-8 ({str(error).strip().splitlines()[0]}).") from error


def write_findings(found: Estimates, path: Path) -> Path:
    """Findings as csv (text that a spreadsheet would run is quoted) or as one html page."""
    if path.suffix.lower() == ".html":
        head = '<!doctype html><html lang="en"><meta charset="utf-8"><title>Audit</title>'
        said = html.escape(found.meta["sentence"])
        body = f"<h1>Audit of printed results</h1><p>{said}</p>{found.to_html()}"
        path.write_text(f"{head}<style>{STYLE}</style><body>{body}</body></html>", encoding="utf-8")
        return path
    frame = found.frame.copy()
    for name in frame.columns:
        if not pd.api.types.is_numeric_dtype(frame[name].dtype):
            frame[name] = frame[name].map(lambda v: f"'{v}" if isinstance(v, str) and v[:1] in "=@\t\r" and v else v)
    frame.to_csv(path, index=False)
    return path
