"""What type checkers and editors see of the lazily loaded names, src/kapstats/__init__.pyi: python tools/stub.py"""

from __future__ import annotations

from pathlib import Path

import kapstats

TARGET = Path(__file__).resolve().parents[1] / "src" / "kapstats" / "__init__.pyi"


def text() -> str:
    """The stub: one import per public name."""
    lines = []
    for name, module in sorted(kapstats._EXPORTS.items(), key=lambda item: (item[1], item[0])):
        above, last = module.rsplit(".", 1)
        source = above if last == name and _is_module(name) else module
        lines.append(f"from {source} import {name} as {name}")
    return "\n".join([*lines, "", "__version__: str", "_EXPORTS: dict[str, str]", ""])


def _is_module(name: str) -> bool:
    return type(getattr(kapstats, name)).__name__ == "module"


if __name__ == "__main__":
    TARGET.write_text(text(), encoding="utf-8")
    print(TARGET.name)
