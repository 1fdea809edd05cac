"""HTML pages from this package's templates."""

from collections.abc import Callable, Mapping
from typing import Any

from experiments.present.drawing import Picture
from he_infer.html_page import data_uri, render_page


def render_template(template: str, filters: Mapping[str, Callable[..., Any]], **values: Any) -> str:
    """Fill in a template of `experiments/templates`; the filter `data_uri` takes a `Picture`.

    Raises:
        jinja2.UndefinedError: the template names a variable that is not given.
    """
    return render_page("experiments", template, {"data_uri": _picture_uri, **filters}, **values)


def _picture_uri(picture: Picture) -> str:
    return data_uri(picture.media_type, picture.data)
