"""Pages and other texts from Jinja templates; all values in HTML are escaped."""

from pathlib import Path

import jinja2

from viewpoint.common.cli import writable
from viewpoint.common.writing import write_atomically


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


def write_page(path: Path, template: str, **values: object) -> None:
    """Fill in the template of a page and write it, as a whole or not at all. Raises UserError when it cannot be."""
    content = render(template, **values)
    with write_atomically(path) as temporary:
        temporary.write_text(content, encoding="utf-8")
