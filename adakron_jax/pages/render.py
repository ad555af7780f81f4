"""Self-contained pages: a template, in which text from files is escaped."""

from pathlib import Path
from typing import Any

from adakron_jax.data.table import printable

PACKAGE = Path(__file__).parents[1]


def render(template: Path, **values: Any) -> str:
    """Renders a template, which may extend or import those of this package, such as `pages/base.html.jinja`."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([template.parent, PACKAGE]),
        autoescape=True,
        finalize=lambda value: printable(value) if type(value) is str else value,  # markup passes unchanged
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template(template.name).render(values)
