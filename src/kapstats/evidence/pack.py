"""The evidence pack: findings, fingerprints and reproductions on one page that a reviewer can attach, and as csv."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd

from kapstats.errors import DataError
from kapstats.estimates import Estimates
from kapstats.evidence.gallery.entry import Reproduction
from kapstats.evidence.gallery.page import render_page, scrolled, section


def write_pack(
    path: str | Path,
    *,
    audit: Estimates | None = None,
    fingerprints: Mapping[str, Estimates] | None = None,
    reproductions: Iterable[Reproduction] = (),
    title: str = "Evidence pack",
) -> Path:
    """Write one HTML file that loads nothing, and all its rows beside it as csv.

    Parameters
    ----------
    path : the .html file; the csv has the same name
    audit : findings of `audit`
    fingerprints : results of `fingerprint` by what they are of ("ELEKT-D, response")
    reproductions : results of ``gallery.run``
    title : heading of the page

    Returns
    -------
    Path
        The page.

    Raises
    ------
    DataError
        When there is nothing to write.

    Examples
    --------
    >>> import tempfile, kapstats as ks
    >>> found = ks.fingerprint(60, 111, 42, 108, printed=("2.11", "28.22"))
    >>> page = write_pack(f"{tempfile.mkdtemp()}/pack.html", fingerprints={"TRANSFORM-1": found})
    >>> page.with_suffix(".csv").read_text().splitlines()[1].split(",")[:4]
    ['fingerprint', 'TRANSFORM-1', 'risk difference', 'wald']
    """
    path, parts, rows = Path(path), list[str](), list[pd.DataFrame]()
    if audit is not None:
        shown = scrolled(audit.to_html(), "Audit") if len(audit) else ""
        parts.append(f"<section><h2>Audit</h2><p>{html.escape(audit.meta['sentence'])}</p>{shown}</section>")
        rows.append(_named(audit.frame, "audit", ""))
    for name, found in (fingerprints or {}).items():
        shown = scrolled(found.to_html(), f"Method of {name}") if len(found) else ""
        said = html.escape(found.meta["sentence"])
        parts.append(f"<section><h2>Method of {html.escape(name)}</h2><p>{said}</p>{shown}</section>")
        rows.append(_named(found.frame, "fingerprint", name))
    for result in reproductions:
        parts.append(section(result))
        rows.append(_named(result.to_frame(), "reproduction", result.entry.name))
    if not parts:
        raise DataError("write_pack: give audit=, fingerprints= or reproductions=.")
    path.write_text(render_page(title, "", "".join(parts)), encoding="utf-8")
    table = pd.concat(rows, ignore_index=True)
    for name in table.columns:
        table[name] = table[name].map(_quoted)
    table.to_csv(path.with_suffix(".csv"), index=False)
    return path


def _named(frame: pd.DataFrame, part: str, name: str) -> pd.DataFrame:
    """The rows with what they belong to in front."""
    kept = frame.copy()
    kept.insert(0, "of", name)
    kept.insert(0, "part", part)
    return kept.astype(object)


def _quoted(value: object) -> object:
    """Text that a spreadsheet would run is quoted."""
    return f"'{value}" if isinstance(value, str) and value[:1] in "=@\t\r" and value else value
