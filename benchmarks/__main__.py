"""Run the benchmark modules named on the command line (all of them by default) and print one table each."""

from __future__ import annotations

import importlib
import os
import pkgutil
import platform
import sys
from pathlib import Path

import benchmarks
from kapstats.table import Table


def main(names: list[str]) -> int:
    """Each module offers ``run() -> list of rows`` (dicts with the same keys)."""
    known = sorted(m.name for m in pkgutil.iter_modules(benchmarks.__path__) if not m.name.startswith("_"))
    unknown = [n for n in names if n not in known]
    if unknown:
        print(f"No benchmark {unknown[0]!r}. There are: {', '.join(known)}.", file=sys.stderr)
        return 2
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, {_processor()}; CPU seconds, one thread")
    for name in names or known:
        rows = importlib.import_module(f"benchmarks.{name}").run()
        columns = tuple(dict.fromkeys(key for row in rows for key in row))
        cells = tuple(tuple(_text(row.get(c, "")) for c in columns) for row in rows)
        print("\n" + Table(columns, cells, title=name).to_text(), flush=True)
    return 0


def _text(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or "unknown processor"


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
