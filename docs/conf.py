"""Sphinx configuration; `scripts/docs` builds the site."""

project = "nasbench"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "nasbench"
autodoc_typehints = "none"
autodoc_member_order = "bysource"
napoleon_use_ivar = True
myst_heading_anchors = 3
suppress_warnings = ["config.cache"]
