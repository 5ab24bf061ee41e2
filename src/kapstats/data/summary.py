"""A descriptive table: its numbers (tidy and as ARD) and its layout."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from kapstats.estimates import Estimates
from kapstats.table import Table


@dataclass(frozen=True, repr=False)
class Summary:
    """What a descriptive function returns.

    estimates : one row per variable, level and group, with its numbers unrounded
    layout : the table as it is printed
    """

    estimates: Estimates
    layout: Table

    @property
    def meta(self) -> dict[str, Any]:
        """Title, sentence, conventions, warnings, versions."""
        return self.estimates.meta

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the reader has to know."""
        return self.estimates.warnings

    def to_frame(self) -> Any:
        """The unrounded numbers, one row per variable, level and group."""
        return self.estimates.to_frame()

    def to_ard(self) -> Any:
        """Analysis results data: one row per statistic that exists."""
        long = self.estimates.to_ard()
        return long[long["stat"].notna()].reset_index(drop=True)

    def filter(self, **values: Any) -> Estimates:
        """The numbers where each named column equals the value."""
        return self.estimates.filter(**values)

    def __getitem__(self, column: str) -> pd.Series:
        return self.estimates[column]

    def __len__(self) -> int:
        return len(self.estimates)

    def table(self) -> Table:
        """The table as it is printed."""
        return self.layout

    def to_text(self) -> str:
        """Plain text."""
        return self.layout.to_text()

    def to_markdown(self) -> str:
        """GitHub-flavoured Markdown."""
        return self.layout.to_markdown()

    def to_html(self) -> str:
        """HTML."""
        return self.layout.to_html()

    def to_latex(self) -> str:
        """LaTeX (booktabs)."""
        return self.layout.to_latex()

    def to_rtf(self, path: str | Path) -> Path:
        """Write Rich Text Format."""
        return self.layout.to_rtf(path)

    def to_docx(self, path: str | Path) -> Path:
        """Write a Word file."""
        return self.layout.to_docx(path)

    def _repr_html_(self) -> str:
        return self.to_html()

    def __repr__(self) -> str:
        return self.to_text()
