"""Results as other programs take them: Arrow tables, rows, and files by the ending of their name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import pandas as pd

from kapstats.errors import DataError, FormulaError, nearest
from kapstats.table import Table


class Shown(Protocol):
    """What can be handed on: it has its rows, and a table for people."""

    def to_frame(self) -> Any:
        """The rows, as the caller's kind of table."""

    def table(self) -> Table:
        """The rows as a table for people."""


def arrow_stream(frame: pd.DataFrame, requested: Any = None) -> Any:
    """The rows as an Arrow stream capsule, for ``pl.DataFrame(result)``, ``pa.table(result)`` and others.

    Raises
    ------
    ImportError
        Without pyarrow (extra ``kapstats[scale]``).
    """
    import pyarrow as pa

    return pa.Table.from_pandas(frame, preserve_index=False).__arrow_c_stream__(requested)


def rows(frame: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """The rows as dictionaries, in order."""
    return iter(frame.to_dict("records"))


def save(result: Shown, frame: pd.DataFrame, path: str | Path) -> Path:
    """Write a result to a file; the ending chooses the format.

    csv, xlsx, parquet and json hold the numbers with full precision; html, md, txt, tex, rtf and docx the table as
    it prints.

    Raises
    ------
    FormulaError
        For an ending that is not known.
    DataError
        When the file cannot be written, or the package that writes it is not installed.
    """
    path = Path(path)
    ending = path.suffix.lower().removeprefix(".")
    if ending not in WRITERS:
        raise FormulaError(
            f"save({str(path)!r}): ending {path.suffix!r} is not known.{nearest(ending, WRITERS)} "
            f"Choose one of {', '.join(WRITERS)}."
        )
    try:
        WRITERS[ending](result, frame, path)
    except ImportError as error:
        extra = {"xlsx": "excel", "parquet": "scale", "docx": "docx"}.get(ending, "dev")
        raise DataError(f"save({str(path)!r}): {error}. Install the extra kapstats[{extra}].") from error
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror or error}.") from error
    return path


def _text(name: str) -> Callable[[Shown, pd.DataFrame, Path], Any]:
    return lambda result, frame, path: path.write_text(getattr(result.table(), name)(), encoding="utf-8", newline="\n")


WRITERS: dict[str, Callable[[Shown, pd.DataFrame, Path], Any]] = {
    "csv": lambda result, frame, path: frame.to_csv(path, index=False, lineterminator="\n"),
    "xlsx": lambda result, frame, path: frame.to_excel(path, index=False, engine="openpyxl"),
    "parquet": lambda result, frame, path: frame.to_parquet(path, index=False, engine="pyarrow"),
    "json": lambda result, frame, path: frame.to_json(path, orient="records", indent=1, double_precision=15),
    "html": _text("to_html"),
    "md": _text("to_markdown"),
    "txt": _text("to_text"),
    "tex": _text("to_latex"),
    "rtf": lambda result, frame, path: result.table().to_rtf(path),
    "docx": lambda result, frame, path: result.table().to_docx(path),
}
