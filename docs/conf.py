"""Sphinx configuration: MyST pages, the furo theme, the API from docstrings."""

from __future__ import annotations

from importlib.metadata import version as installed_version

project = "celery-dispatch"
author = "the celery-dispatch authors"
project_copyright = "the celery-dispatch authors"
release = installed_version("celery-dispatch")
version = release

extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["_build"]
source_suffix = {".md": "markdown"}

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_default_options = {"show-inheritance": True}

html_theme = "furo"
html_title = f"celery-dispatch {release}"
html_static_path = ["_static"]
html_show_sourcelink = False
