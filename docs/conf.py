"""Sphinx configuration: MyST pages, NumPy docstrings, no network. Notebooks and gallery are made from their sources."""

import sys
from importlib import metadata
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools"))
import docs_pages

docs_pages.write()

project = "kapstats"
author = "the kapstats developers"
copyright = "2026, the kapstats developers"
release = metadata.version("kapstats")
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.mathjax", "sphinx.ext.napoleon"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build", "_extra", "_reference.md"]
myst_enable_extensions = ["dollarmath", "amsmath", "deflist", "colon_fence"]
myst_heading_anchors = 3
napoleon_google_docstring = False
napoleon_custom_sections = ["Agrees with"]
autodoc_typehints = "signature"
html_theme = "furo"
html_title = f"kapstats {release}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_extra_path = ["validation.html", "_extra"]
