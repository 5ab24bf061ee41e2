"""Sphinx configuration: MyST pages, NumPy docstrings, no network."""

from importlib import metadata

project = "kapstats"
author = "the kapstats developers"
copyright = "2026, the kapstats developers"
release = metadata.version("kapstats")
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.mathjax", "sphinx.ext.napoleon"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
myst_enable_extensions = ["dollarmath", "amsmath", "deflist", "colon_fence"]
myst_heading_anchors = 3
napoleon_google_docstring = False
napoleon_custom_sections = ["Agrees with"]
autodoc_typehints = "signature"
html_theme = "furo"
html_title = f"kapstats {release}"
