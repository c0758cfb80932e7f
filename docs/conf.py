"""Sphinx configuration; `scripts/docs` builds the site."""

from sphinx.application import Sphinx
from sphinx.ext.napoleon.docstring import GoogleDocstring

import nasbench.builtin

project = "nasbench"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "nasbench"
html_static_path = [str(nasbench.builtin.content_folder("reports") / "tables.js")]
default_role = "code"  # `name` in a docstring is code, as in Markdown
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
maximum_signature_line_length = 88
napoleon_use_ivar = True
myst_heading_anchors = 3
suppress_warnings = ["config.cache"]


# napoleon reads what precedes a colon in the text of a property or of `Returns:` as its type. Here types stand in
# signatures only, and a colon is punctuation.
def _inline_attribute(self: GoogleDocstring) -> tuple[str, list[str]]:
    return "", self.__class__([self._lines.next(), *self._dedent(self._consume_to_end())], self._config).lines()


def _returns_section(self: GoogleDocstring, preprocess_types: bool = False) -> list[tuple[str, str, list[str]]]:
    lines = self._dedent(self._consume_to_next_section())
    return [("", "", self.__class__(lines, self._config).lines())] if lines else []


GoogleDocstring._consume_inline_attribute = _inline_attribute
GoogleDocstring._consume_returns_section = _returns_section


def setup(app: Sphinx) -> None:
    """Let a click on a title sort the tables of the atlas, by the script of the reports."""
    app.connect("html-page-context", lambda app, page, *_: app.add_js_file("tables.js") if page == "atlas" else None)
