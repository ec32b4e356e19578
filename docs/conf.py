"""Sphinx settings. Build: sphinx-build -W --keep-going -n -b html docs docs/_build/html."""

import re
from importlib.metadata import version as installed_version

from docutils.parsers.rst import roles
from sphinx.application import Sphinx
from sphinx.domains.python import PyXRefRole

project = "clusterloom"
author = "the clusterloom authors"
copyright = "the clusterloom authors"
release = version = installed_version("clusterloom")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"clusterloom {release}"
html_copy_source = False

# MathJax is loaded by the reader's browser; nothing is fetched while the pages are built.
myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
napoleon_use_ivar = False
napoleon_use_rtype = False

# Names in annotations that live in other projects, whose indexes would have to be fetched, or that are private here.
nitpick_ignore_regex = [
    (
        r"py:(class|obj|data)",
        r"(np|numpy|scipy|torch|nn|pathlib|PIL|Image|rich|accelerate|sklearn|types|collections|annotated_types|pydantic)\..*",
    ),
    (r"py:(class|obj|data)", r"(Tensor|NDArray|Path|Accelerator|Console|ProgressReport)"),
    (r"py:(class|obj|data)", r"(Iterator|Sequence|Mapping|TracebackType)"),
    (r"py:class", r"clusterloom\.device\._(Item|Result)"),
    (r"py:(class|obj)", r".*\b(Source|Picture|Arrays|Entry|Output|Scaling|Estimator)"),
    (r"py:exc", r"NotFittedError"),
    # Backticks in docstrings name many things that are not documented objects; see `backtick`.
    (r"py:obj", r".*"),
]


def backtick(name, rawtext, text, lineno, inliner, options=None, content=()):
    """Single backticks in docstrings: a link where the text names a documented object, code everywhere else."""
    if re.fullmatch(r"[A-Za-z_][\w.]*", text):
        return PyXRefRole()("py:obj", rawtext, text, lineno, inliner, options or {}, content)
    return roles.code_role(name, rawtext, text, lineno, inliner, options or {}, content)


def describe_whole(app, what, name, obj, options, lines):
    """Keep napoleon from taking what stands before a colon, in the first line on a field, for the field's type."""
    if what in ("attribute", "property"):
        lines[:0] = ["..", ""]  # an empty comment


def setup(app: Sphinx) -> None:
    app.add_role("backtick", backtick)
    app.connect("autodoc-process-docstring", describe_whole, priority=400)  # before napoleon


default_role = "backtick"
