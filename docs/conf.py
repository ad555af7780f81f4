"""The documentation site: `make docs`, in which every warning is an error."""

import adakron_jax

project = "AdaKron-JAX"
author = copyright = "The AdaKron-JAX authors"
release = version = adakron_jax.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["_build"]
nitpicky = False

html_theme = "furo"
html_title = f"AdaKron-JAX {release}"

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "description"
napoleon_use_ivar = True
