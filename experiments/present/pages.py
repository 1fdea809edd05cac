"""HTML pages from this package's templates, with everything inside: they ask for nothing from outside."""

import base64
from collections.abc import Callable, Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from experiments.image_cipher.figures import Picture


def page(template: str, filters: Mapping[str, Callable[..., Any]], **values: Any) -> str:
    """A template filled in.

    Args:
        template: its file's name.
        filters: those of its own; `data_uri`, a picture as an address that holds it, is there for all.
        values: what it names.

    Raises:
        jinja2.UndefinedError: it names what is not given.
    """
    environment = Environment(
        loader=PackageLoader("experiments"),
        autoescape=select_autoescape(),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"data_uri": _data_uri, **filters}
    return environment.get_template(template).render(**values)


def _data_uri(picture: Picture) -> str:
    return f"data:{picture.media_type};base64,{base64.b64encode(picture.data).decode('ascii')}"
