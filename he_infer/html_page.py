"""Self-contained HTML pages: one base template and style for the demo's report and the experiments' reports.

A page holds its pictures as data URIs and loads nothing from elsewhere. Templates extend `page.html.j2`, which has
the blocks `style` (further rules) and `body`.
"""

import base64
from collections.abc import Callable, Mapping
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined


def render_page(
    package: str, template: str, filters: Mapping[str, Callable[..., Any]] | None = None, **values: Any
) -> str:
    """Fill in a template.

    Args:
        package: the package whose folder `templates` holds the template.
        template: file name of the template; it extends `page.html.j2`.
        filters: Jinja filters that only this template uses.
        values: the variables that the template names; all are escaped as HTML.

    Raises:
        jinja2.UndefinedError: the template names a variable that is not given.
    """
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package), PackageLoader("he_infer")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(filters or {})
    return environment.get_template(template).render(**values)


def data_uri(media_type: str, data: bytes) -> str:
    """Make a data URI that embeds a picture in a page."""
    return f"data:{media_type};base64,{base64.b64encode(data).decode('ascii')}"
