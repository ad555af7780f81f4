"""The documentation site: `make docs`, in which every warning is an error."""

import os
import subprocess
import sys

from docutils import nodes
from docutils.parsers.rst import Directive

import adakron_jax

project = "AdaKron-JAX"
author = copyright = "The AdaKron-JAX authors"
release = version = adakron_jax.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode", "sphinx_design"]
exclude_patterns = ["_build"]
nitpicky = False

html_theme = "furo"
html_title = f"AdaKron-JAX {release}"

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "description"
napoleon_use_ivar = True


class Help(Directive):
    """`.. help:: train`: what the command prints for `--help`, as the site is built."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        command = [sys.executable, "-m", "adakron_jax", self.arguments[0], "--help"]
        environment = os.environ | {"COLUMNS": "84", "JAX_PLATFORMS": "cpu"}
        text = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
        return [nodes.literal_block(text, text, language="none")]


def setup(app) -> None:
    app.add_directive("help", Help)
