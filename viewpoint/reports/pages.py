"""Pages and other texts from Jinja templates; all values in HTML are escaped."""

from pathlib import Path

import jinja2

from viewpoint.common.cli import writable


def render(template: str | Path, **values: object) -> str:
    """Fill in a template, the HTML of a page beside this file or any other text, and return the result."""
    path = Path(__file__).parent / template
    is_page = path.suffix == ".html"
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(path.parent),
        autoescape=is_page,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=not is_page,
    )
    return writable(environment.get_template(path.name).render(**values))
