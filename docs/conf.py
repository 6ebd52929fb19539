"""Sphinx: Markdown (MyST) in, a site in docs/_build out; `make docs` builds it and fails on any warning."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

project = "Atrous"
author = "The Atrous authors"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "tables_of_the_papers"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = "Atrous"
html_static_path: list[str] = []
autodoc_typehints = "description"
autodoc_member_order = "bysource"
nitpicky = False
