"""Settings of the documentation site; `make docs` builds it."""

import re

from sphinx.application import Sphinx

import xiaonet

project = "XiaoNet"
author = "The XiaoNet developers"
copyright = "2026, The XiaoNet developers"
release = version = xiaonet.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["_build"]

html_theme = "sphinx_rtd_theme"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_theme_options = {"navigation_depth": 3, "collapse_navigation": False}
html_show_sourcelink = False

default_role = "code"  # docstrings write `name` as Markdown does
autodoc_preserve_defaults = True
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
napoleon_use_ivar = True
napoleon_use_rtype = False

myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_in_temp = True
nb_execution_timeout = 120
nb_render_markdown_format = "myst"

CARD = re.compile(r"\]\((?:\.\./)+src/xiaonet/weights/README\.md")  # on the site the card of the weights is a page


def link_card(app: Sphinx, name: str, source: list[str]) -> None:
    """Let links to the card of the weights lead to its page."""
    source[0] = CARD.sub("](" + "../" * name.count("/") + "weights.md", source[0])


def setup(app: Sphinx) -> None:
    """Connect the hooks of this site."""
    app.connect("source-read", link_card)
