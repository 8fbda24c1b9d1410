"""HTML pages from the Jinja templates beside this file, with all values escaped."""

from pathlib import Path

import jinja2

from viewpoint.common.cli import writable


def render(template: str, **values: object) -> str:
    """Fill in a template: the HTML of a page that needs no other file."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return writable(environment.get_template(template).render(**values))
