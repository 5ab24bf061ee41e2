"""Whether printed numbers can be right: each against the others on its line."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from kapstats import estimates, frames
from kapstats._types import FrameLike
from kapstats.data import delimited
from kapstats.errors import DataError, warn
from kapstats.evidence import columns
from kapstats.evidence.checks import counts, lines
from kapstats.evidence.checks.finding import Finding
from kapstats.evidence.checks.inference import inference
from kapstats.evidence.checks.moments import moments


def audit(claims: FrameLike) -> estimates.Estimates:
    """Findings in a table of printed results: what cannot be right, given the other numbers of the line.

    Parameters
    ----------
    claims : one printed line per row, with any of these columns. Text keeps its printed digits ("63.0"); numbers have
        their shortest form.

        - ``study arm term events n percent``: percentages against counts; events above n; p values of two arms against
          every usual test of their counts; the same line twice
        - ``mean sd n integer``: GRIM and GRIMMER, where `integer` is the number of whole-number items that are averaged
          (1 or True: single whole numbers); with ``minimum maximum`` of the scores, whether mean and SD fit the range
        - ``estimate std_error conf_low conf_high p_value scale level df``: order and sign of estimate and limits;
          symmetry on `scale` ("identity", "log", "OR", "HR" ...; without it either scale will do, and an asymmetry up
          to a tenth of the half-width, as of exact and score limits); standard error against limits; p against any of
          them. Lines that say "Dunnett", "Bonferroni" ... or "non-inferiority" in `p_value`, `adjust` or `method` are
          only judged for order and symmetry
        - ``statistic df p_value test``: p against the statistic (t, z, or chi-square; `test` "F" needs ``df1``)

    Returns
    -------
    Estimates
        One row per fault: the columns of the claim, then ``check`` (percent, denominator, count, range, grim, grimmer,
        order, sign, outside, symmetry, std_error, statistic, p_value, p_counts, duplicate, missing, total, unreadable),
        ``printed``, ``implied``, ``distance`` in units of the last printed digit, and ``severity``: "error" cannot be
        right; "warning" cannot be right if the usual method was used, or cannot be read; "note" one unit of the last
        digit. ``.meta``: ``judged`` and ``not_judged``, columns; a column of numbers under another name is warned about

    Notes
    -----
    A printed number stands for every value that rounds to it, half up or half to even. A number is only called wrong
    when no combination of such values agrees. Without `df`, t distributions down to the sample size (or 30) will do.
    One fault gives one row: a p value is judged against the estimate, the limits, the standard error and the statistic,
    and is wrong only when it fits none of them; GRIMMER is asked only where GRIM passes.

    References
    ----------
    Brown & Heathers 2017 (GRIM); Anaya 2016, Allard 2018 (GRIMMER).

    Examples
    --------
    >>> claims = {"study": ["A"], "events": [30], "n": [231], "percent": ["13.3"]}
    >>> found = audit(claims)
    >>> found["check"].tolist(), found["implied"].round(1).tolist()
    (['percent'], [13.0])
    """
    frame = read_claims(claims) if isinstance(claims, str | Path) else frames.to_pandas(claims)
    read = columns.read(frame)
    if not read.judged:
        has = ", ".join(map(str, frame.columns[:12])) or "no column"
        known = ", ".join(sorted(columns.JUDGED))
        hint = columns.hints(frame.columns, columns.JUDGED)
        raise DataError(f"audit: no column to judge. It reads {known}; the table has: {has}.{hint}")
    rows = frame.to_dict("records")
    found: list[Finding] = []
    for i, row in enumerate(rows):
        found += [*lines.unreadable(i, row), *counts.counts(i, row), *moments(i, row), *inference(i, row)]
    found = counts.denominators(frame, rows, found)
    found = [
        *found,
        *counts.pairs(frame, rows, found),
        *lines.duplicates(frame),
        *lines.missing(frame),
        *counts.totals(frame, rows),
    ]
    found.sort(key=lambda f: f.row)
    table = frame.iloc[[f.row for f in found]].reset_index(drop=True)
    added = {
        name: [getattr(f, name) for f in found] for name in ("check", "printed", "implied", "distance", "severity")
    }
    table = table.drop(columns=[c for c in added if c in table.columns]).assign(**added)
    sentence = (
        f"{len(frame)} printed lines; {len(found)} findings in {len({f.row for f in found})} of them. {read.said}"
    )
    notes = [warn(text) for text in read.doubts]
    about = estimates.meta(
        method="audit of printed results",
        level=None,
        title="Audit",
        sentence=sentence,
        warnings=notes,
        data=frame,
        frame_kind=frames.kind(claims),
        n_claims=len(frame),
        rows=tuple(f.row for f in found),
        judged=read.judged,
        not_judged=read.left,
        verbatim=tuple(c for c in table.columns if c not in ("implied", "distance")),
        blank=True,
    )
    return estimates.Estimates(table, about)


def read_claims(path: str | Path) -> pd.DataFrame:
    """A csv of printed lines, every cell as text, so that "13.00" keeps its digits; other files by the usual reader."""
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: no such file.")
    return delimited.texts(path) if path.suffix.lower() == ".csv" else frames.to_pandas(path)
