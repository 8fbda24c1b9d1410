"""HTML from the templates beside this file; every name in it is escaped."""

from pathlib import Path

import jinja2


def render(template: str, **values: object) -> str:
    """The page that a template gives with these values: one file that needs no other."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**values)
