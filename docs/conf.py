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
html_js_files = ["site.js"]
html_extra_path = ["validation.html", "_extra"]


def setup(app):  # type: ignore[no-untyped-def]
    """Outputs under the code of the tutorial and the how-to pages; headings of the contents get their level."""

    def outputs(app, name, source):  # type: ignore[no-untyped-def]
        if name == "tutorial" or name.startswith("how-to/"):
            source[0] = docs_pages.with_outputs(source[0])

    def level(app, page, template, context, doctree):  # type: ignore[no-untyped-def]
        tree = context.get("furo_navigation_tree", "")
        context["furo_navigation_tree"] = tree.replace('role="heading"', 'role="heading" aria-level="2"')

    app.connect("source-read", outputs)
    app.connect("html-page-context", level, priority=900)
