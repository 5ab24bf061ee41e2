"""The validation report: certificates, agreement with other software and published results in one HTML file.

python -m kapstats.certification.validation docs          # reads docs/certificates, writes docs/validation.html

Certificates are the csv files there; the comparisons with other software, read off the tests by tools/coverage.py, are
in reference-agreement.tsv beside them; published results are computed again from their inputs.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np
import pandas as pd

from kapstats._types import FloatArray
from kapstats.certification.estimators import Certificate, named, scenario
from kapstats.certification.performance import HIGH, LOW, failing
from kapstats.certification.programme import PROGRAMME, verdict
from kapstats.certification.study import Task, rows_of_truth, wanted_rows, work
from kapstats.estimates import versions
from kapstats.evidence import gallery

Loaded = list[tuple[Certificate, pd.DataFrame]]
LEVEL = 0.95
INK, MUTED, GRID, GOOD, BAD = "#1f2328", "#5c636d", "#e1e4e8", "#123c80", "#a32c0c"
#: (estimator, scenario, n, row of the answer) of the pictures of single intervals
ZIPS = (("mmrm", "kap-two-arms", 20, 4), ("mmrm-z", "kap-two-arms", 20, 4), ("rmst", "kap-parallel", 240, 0))
ZIP_REPLICATES = 400


def load(folder: Path) -> Loaded:
    """The certificates that are there, in the order of the programme."""
    files = [(c, folder / f"{c.name}.csv") for c in PROGRAMME]
    return [(c, pd.read_csv(path)) for c, path in files if path.exists()]


# ------------------------------------------------------------------------------------------------ text


def spread(values: pd.Series, digits: int, scale: float = 1.0) -> str:
    """Smallest to largest of a column."""
    known = values.dropna() * scale
    if known.empty:
        return ""
    low, high = f"{known.min():.{digits}f}", f"{known.max():.{digits}f}"
    return low if low == high else f"{low} to {high}"


def replicated(certificate: Certificate, frame: pd.DataFrame) -> str:
    """Replicates, and how many the programme asks for where the run was shorter."""
    run = int(frame.replicates.iloc[0])
    return f"{run:,}" if run >= certificate.replicates else f"{run:,} of {certificate.replicates:,}"


def summary_row(certificate: Certificate, frame: pd.DataFrame) -> list[str]:
    """One line of the summary: what was studied, the range of every measure over its estimands, the verdict."""
    passed = verdict(certificate, frame)
    word = "passes" if passed else "fails"
    role = " (negative control: must fail)" if certificate.control else ""
    bias = (frame.bias.abs() / frame.empirical_se).max()
    failed = sum(failing(frame, LEVEL))
    return [
        certificate.estimator, certificate.scenario, str(certificate.n),
        replicated(certificate, frame), str(len(frame)),
        "" if np.isnan(bias) else f"{bias:.3f}", spread(frame.se_ratio, 3), spread(frame.coverage, 2, 100),
        spread(frame.coverage_mcse, 2, 100), spread(frame.rejection, 2, 100), spread(frame.convergence, 2, 100),
        f"{word}{role}" + (f", {failed} of {len(frame)} estimands" if failed else ""), certificate.note,
    ]  # fmt: skip


HEADER = (
    "estimator", "scenario", "n", "replicates", "estimands", "largest |bias| / empirical SE", "model SE / empirical SE",
    "coverage of 95% limits, %", "its Monte-Carlo error", "rejection, %", "convergence, %", "verdict", "note",
)  # fmt: skip


def html_table(header: Sequence[str], rows: Sequence[Sequence[str]], name: str) -> str:
    """A table with a caption and named rows that scrolls sideways and can be reached from the keyboard."""
    head = "".join(f'<th scope="col">{escape(h)}</th>' for h in header)
    lines = [
        f'<tr><th scope="row">{escape(first)}</th>' + "".join(f"<td>{escape(c)}</td>" for c in others) + "</tr>"
        for first, *others in rows
    ]
    scroll = f'<div class="wide" tabindex="0" role="region" aria-label="{escape(name)}">'
    caption = f"<caption>{escape(name)}</caption>"
    return f"{scroll}<table>{caption}<thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"


def detail(certificate: Certificate, frame: pd.DataFrame) -> str:
    """Every estimand of one certificate, folded."""
    columns = [c for c in frame.columns if c not in ("truth_mcse", "replicates", "convergence_mcse")]
    rows = [
        [str(v) if isinstance(v, str) else "" if pd.isna(v) else f"{v:.4g}" for v in record]
        for record in frame[columns].itertuples(index=False)
    ]
    name = certificate.name
    return f"<details><summary>{escape(name)}</summary>{html_table(columns, rows, name)}</details>"


def reference_table(path: Path) -> str:
    """Agreement with other software by file of tests, and folded every comparison; "" when there is no list."""
    if not path.exists():
        return ""
    every = pd.read_csv(path, sep="\t")
    rows = []
    for (file, software), group in every.groupby(["file", "compared with"], sort=False):
        names = sorted({n for held in group.estimators for n in held.split(", ")})
        ends = [float(v) for held in group.tolerance for v in held.split(" to ")]
        span = f"{min(ends):.0e} to {max(ends):.0e}".replace("e-0", "e-")
        cases = f"{group.cases.sum():,}"
        rows.append([", ".join(names), str(software), span, str(len(group)), cases, f"tests/{file}"])
    head = ("estimators", "compared with", "tolerances", "comparisons", "cases", "file")
    folded = html_table(every.columns.tolist(), every.astype(str).to_numpy().tolist(), "Every comparison")
    total = f"{len(every)} comparisons, {every.cases.sum():,} cases"
    shown = html_table(head, rows, "Comparisons with other software")
    return f"<p>{total}.</p>{shown}<details><summary>Every comparison</summary>{folded}</details>"


def gallery_table() -> str:
    """Published results computed again from their inputs: how many printed numbers come out to the last digit."""
    rows, exact, agree = [], 0, 0
    for name in gallery.list():
        found = gallery.run(name)
        must = [line.agrees for line in found.lines if line.kind == "exact"]
        exact, agree = exact + len(must), agree + sum(must)
        others = f"{len(found.lines) - len(must)}"
        rows.append([found.entry.id, found.entry.title, found.entry.source, f"{sum(must)} of {len(must)}", others])
    head = ("id", "result", "source", "printed numbers reproduced", "others, shown for size")
    shown = html_table(head, rows, "Published results")
    return f"<p>{agree} of {exact} printed numbers are reproduced to their last digit.</p>{shown}"


# ------------------------------------------------------------------------------------------------ pictures


def svg(width: int, height: int, body: str, title: str, description: str) -> str:
    """A picture with a title and a description for screen readers."""
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    words = f"<title>{escape(title)}</title><desc>{escape(description)}</desc>"
    return f'<svg {size} role="img" font-family="sans-serif" font-size="11">{words}{body}</svg>'


def text(x: float, y: float, words: str, anchor: str = "start", fill: str = INK) -> str:
    """Words at a place of a picture."""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{fill}">{escape(words)}</text>'


def line(x1: float, y1: float, x2: float, y2: float, stroke: str, width: float = 1.0) -> str:
    """A straight line of a picture."""
    where = f'x1="{x1:.2f}" y1="{y1:.2f}" x2="{x2:.2f}" y2="{y2:.2f}"'
    return f'<line {where} stroke="{stroke}" stroke-width="{width}"/>'


def coverage_picture(loaded: Loaded) -> str:
    """Coverage of every estimand, one row per certificate, with the promised level and the limit of a failure."""
    shown = [(c, f) for c, f in loaded if f.coverage.notna().any()]
    low, left, width, step = 0.80, 340, 420, 20
    height = 40 + step * len(shown)

    def at(value: float) -> float:
        return left + (max(value, low) - low) / (1 - low) * width

    parts = [line(at(v), 24, at(v), height - 10, INK if v == LEVEL else GRID) for v in (0.8, 0.85, 0.9, 0.95, 1.0)]
    parts += [text(at(v), 16, f"{100 * v:.0f}%", "middle", MUTED) for v in (0.8, 0.85, 0.9, 0.95, 1.0)]
    for k, (certificate, frame) in enumerate(shown):
        y = 40 + step * k
        control = ", control" if certificate.control else ""
        name = f"{certificate.estimator}, {certificate.scenario}, n {certificate.n}{control}"
        parts.append(text(left - 8, y + 4, name, "end"))
        for value, bad in zip(frame.coverage, failing(frame, LEVEL), strict=True):
            if np.isfinite(value):
                mark = f'fill="{BAD if bad else GOOD}" fill-opacity="0.55"'
                parts.append(f'<circle cx="{at(value):.1f}" cy="{y}" r="3.2" {mark}/>')
    said = f"One row for each of {len(shown)} certificates, a dot for each estimand, from 80 to 100 percent."
    return svg(left + width + 20, height, "".join(parts), "Coverage of every estimand by certificate", said)


def against_n(loaded: Loaded) -> str:
    """Mean coverage over the estimands against the number of subjects, where an estimator was studied at several."""
    groups: dict[str, list[tuple[int, float]]] = {}
    for c, f in loaded:
        if f.coverage.notna().any():
            groups.setdefault(f"{c.estimator}, {c.scenario}", []).append((c.n, float(f.coverage.mean())))
    lines = {k: sorted(v) for k, v in groups.items() if len({n for n, _ in v}) > 1}
    left, width, height, low = 60, 380, 264, 0.90

    def x(n: float) -> float:
        return left + (np.log10(n) - 1) / (np.log10(2000) - 1) * width

    def y(value: float) -> float:
        return 230 - (max(value, low) - low) / (1 - low) * 200

    parts = [line(left, y(v), left + width, y(v), INK if v == LEVEL else GRID) for v in (0.9, 0.925, 0.95, 0.975, 1.0)]
    parts += [text(left - 6, y(v) + 4, f"{100 * v:.1f}%", "end", MUTED) for v in (0.9, 0.925, 0.95, 0.975, 1.0)]
    parts += [text(x(n), 246, str(n), "middle", MUTED) for n in (20, 40, 80, 240, 480, 1200)]
    parts.append(text(left + width / 2, 258, "subjects", "middle", MUTED))
    for name, points in lines.items():
        path = " ".join(f"{x(n):.1f},{y(v):.1f}" for n, v in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{GOOD}"/>')
        parts += [f'<circle cx="{x(n):.1f}" cy="{y(v):.1f}" r="3" fill="{GOOD}"/>' for n, v in points]
        parts.append(text(x(points[-1][0]) + 7, y(points[-1][1]) + 4, name))
    said = "; ".join(f"{k}: " + ", ".join(f"{100 * v:.1f}% at {n}" for n, v in points) for k, points in lines.items())
    return svg(left + width + 190, height, "".join(parts), "Coverage against the number of subjects", said)


def intervals(estimator: str, name: str, n: int, row: int) -> tuple[FloatArray, str, float]:
    """(replicates, 6) of one estimand, its label and its true value."""
    chosen, known = scenario(name), named(estimator)
    found = wanted_rows(known, chosen, rows_of_truth(chosen, known.parts))[row]
    task = Task(estimator, chosen, n, 1, LEVEL)
    identified = ", ".join(str(found[k]) for k in ("contrast", "AVISIT", "time", "tau") if k in found)
    words = f"{estimator}, n {n}: {found['quantity']} {identified or found.get('TRT01P', '')}"
    return work(task, 0, ZIP_REPLICATES)[:, row], words, float(found["value"])


def zip_picture(numbers: FloatArray, words: str, value: float) -> str:
    """Intervals sorted by how far the truth lies from their centre, in half-widths; those that miss it in red."""
    low, high = numbers[:, LOW], numbers[:, HIGH]
    half, centre = (high - low) / 2, (high + low) / 2
    order = np.argsort(-np.abs(centre - value) / half)
    spread_ = float(np.nanmax(np.abs(np.concatenate([low, high]) - value)))
    left, width, step = 10, 300, 0.55
    parts = [text(left, 14, words)]
    for k, i in enumerate(order):
        a, b = (left + width / 2 + (v - value) / spread_ * width / 2 for v in (low[i], high[i]))
        miss = not low[i] <= value <= high[i]
        if np.isfinite(a) and np.isfinite(b):
            parts.append(line(a, 24 + k * step, b, 24 + k * step, BAD if miss else GRID, step))
    bottom = 24 + len(order) * step
    cut = 24 + len(order) * step * (1 - LEVEL)
    parts.append(line(left + width / 2, 22, left + width / 2, bottom, INK))
    across = f'x1="{left}" y1="{cut:.1f}" x2="{left + width}" y2="{cut:.1f}"'
    parts.append(f'<line {across} stroke="{INK}" stroke-dasharray="3 3"/>')
    covered = float(np.mean((low <= value) & (value <= high)))
    below = f"{100 * covered:.1f}% of {len(order)} cover; dashed: 5% from the top"
    parts.append(text(left, bottom + 14, below, fill=MUTED))
    return svg(left + width + 20, int(bottom + 24), "".join(parts), words, below)


STYLE = (
    "body{font-family:system-ui,sans-serif;color:#1f2328;max-width:1280px;margin:2rem auto;padding:0 1rem;"
    "line-height:1.45}"
    "table{border-collapse:collapse;font-size:.78rem}td,th{padding:.15rem .4rem;border-bottom:1px solid #e1e4e8;"
    "text-align:left;vertical-align:top}tbody th{font-weight:400}caption{text-align:left;color:#57606a}"
    ".skip{position:absolute;left:-99rem}.skip:focus{left:1rem;background:#fff;padding:.3rem}"
    ".wide{overflow-x:auto}svg{max-width:100%;height:auto}details{margin:.3rem 0}"
    "code{background:#f4f5f7;padding:.1rem .3rem}.row{display:flex;flex-wrap:wrap;gap:1rem}"
)


def page(loaded: Loaded, agreement: Path) -> str:
    """The whole report; `agreement` is the list of comparisons with other software."""
    summary = html_table(HEADER, [summary_row(c, f) for c, f in loaded], "Certificates")
    zips = "".join(zip_picture(*intervals(*z)) for z in ZIPS)
    made = ", ".join(f"{k} {v}" for k, v in versions().items())
    details = "".join(detail(c, f) for c, f in loaded)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>kapstats: validation</title>'
        f'<meta name="viewport" content="width=device-width,initial-scale=1"><style>{STYLE}</style></head><body>'
        '<a class="skip" href="#main">Skip to the content</a>'
        "<header><h1>Validation: what the estimators do when the truth is known</h1>"
        "<p>Each certificate draws trials from a scenario, analyses each, and compares with the true value, which comes"
        " from closed forms and potential outcomes, never from an estimator. A certificate fails when bias exceeds 0.05"
        " empirical standard errors, or the error rate of the interval exceeds the promised one by a tenth, beyond"
        " three Monte-Carlo errors (more where many estimands are looked at: Bonferroni). Negative controls are methods"
        " in use that must fail. Seed 1 throughout.</p>"
        '</header><main id="main">'
        f"<h2>Summary</h2>{summary}<h2>Coverage</h2>{coverage_picture(loaded)}"
        "<p>Blue: passes. Red: fails. Values below 80% are drawn at 80%.</p>"
        f"<h2>Coverage against n</h2>{against_n(loaded)}"
        f'<h2>Single intervals</h2><div class="row">{zips}</div>'
        f"<h2>Every estimand</h2>{details}"
        f"<h2>Agreement with other software</h2>{reference_table(agreement)}"
        "<p>Read off the tests by <code>python tools/coverage.py</code>: a tolerance is the one the test applies.</p>"
        f"<h2>Published results, reproduced</h2>{gallery_table()}"
        "<p>Every number: <code>kapstats.evidence.gallery.run_all()</code>.</p>"
        "<h2>Run it again</h2><p><code>python -m kapstats.certification.programme docs/certificates --again"
        " --processes 2</code>, then <code>python -m kapstats.certification.validation docs</code>."
        f" One BLAS thread per process.</p><p>Page made with {escape(made)}.</p></main></body></html>\n"
    )


def main(arguments: Sequence[str]) -> int:
    """Write ``validation.html`` into the folder that holds ``certificates/``."""
    folder = Path(arguments[0])
    kept = folder / "certificates"
    made = page(load(kept), kept / "reference-agreement.tsv")
    (folder / "validation.html").write_text(made, encoding="utf-8", newline="\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
