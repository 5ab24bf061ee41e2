"""Run the benchmark modules named on the command line (all of them by default) and print one table each.

``--page docs/performance.md`` writes the tables between the two marks of that page as well.
"""

from __future__ import annotations

import argparse
import importlib
import os
import pkgutil
import platform
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import benchmarks
from kapstats.table import Table

#: what the timings depend on besides the machine
PACKAGES = ("kapstats", "numpy", "scipy", "pandas", "statsmodels", "lifelines")
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"


def main(arguments: Sequence[str]) -> int:
    """Each module offers ``run() -> list of rows`` (dicts with the same keys)."""
    known = sorted(m.name for m in pkgutil.iter_modules(benchmarks.__path__) if not m.name.startswith("_"))
    parsed = _parser(known).parse_args(arguments)
    unknown = [n for n in parsed.names if n not in known]
    if unknown:
        print(f"No benchmark {unknown[0]!r}. There are: {', '.join(known)}.", file=sys.stderr)
        return 2
    print(_machine())
    made = []
    for name in parsed.names or known:
        made.append(_table(name, importlib.import_module(f"benchmarks.{name}").run()))
        print("\n" + made[-1].to_text(), flush=True)
    if parsed.page:
        write(Path(parsed.page), made)
    return 0


def write(page: Path, tables: Sequence[Table]) -> None:
    """Put `tables`, and what they were measured on, between the marks of `page`."""
    before, rest = page.read_text(encoding="utf-8").split(BEGIN)
    after = rest.split(END)[1]
    parts = [f"{_machine()}; {_versions()}."]
    parts += [f"### {table.title}\n\n{table.with_title('').to_markdown().strip()}" for table in tables]
    page.write_text(before + "\n\n".join([BEGIN, *parts, END]) + after, encoding="utf-8")


def _parser(known: Sequence[str]) -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="./dev bench", description=f"Benchmarks: {', '.join(known)}.")
    made.add_argument("names", nargs="*", metavar="NAME", help="which (default: all)")
    made.add_argument("--page", metavar="FILE.md", help="also write the tables into this page")
    return made


def _table(name: str, rows: Sequence[dict[str, Any]]) -> Table:
    columns = tuple(dict.fromkeys(key for row in rows for key in row))
    return Table(columns, tuple(tuple(_text(row.get(c, "")) for c in columns) for row in rows), title=name)


def _machine() -> str:
    return f"Python {platform.python_version()}, {os.cpu_count()} cores, {_processor()}; CPU seconds, one thread"


def _versions() -> str:
    found = {d.name.lower(): d.version for d in metadata.distributions() if d.name}
    return ", ".join(f"{name} {found[name]}" for name in PACKAGES if name in found)


def _text(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
