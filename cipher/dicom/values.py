"""Single attribute values of data sets that may be odd or hostile: never a warning, never an exception."""

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from pydicom import Dataset

_ONE_AT_A_TIME = threading.RLock()


@contextmanager
def quiet() -> Iterator[None]:
    """While active, pydicom's remarks on odd files are dropped.

    Filters of warnings belong to the whole process, so that threads take turns. They would anyway: pydicom is Python.
    """
    with _ONE_AT_A_TIME, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def text(attributes: Dataset, name: str) -> str:
    """The attribute as text; empty where it is missing, empty or cannot be read."""
    with quiet():
        try:
            value = attributes.get(name)
        except Exception:  # pydicom decodes the value here, and fails in whatever way hostile bytes lead it to
            return ""
    return "" if value is None else str(value)


def number(attributes: Dataset, name: str, default: int = 0) -> int:
    """The attribute as an integer; `default` where it is missing or empty, -1 where it is no integer."""
    value = text(attributes, name)
    if not value:
        return default
    try:
        return int(value)
    except ValueError:
        return -1


def items(attributes: Dataset, name: str) -> list[Dataset]:
    """The items of a sequence; none where it is missing, empty or cannot be read."""
    with quiet():
        try:
            return list(attributes.get(name) or [])
        except Exception:  # as in `text`
            return []


_ORIGINALS = ("PatientID", "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")


def originals(attributes: Dataset | None) -> dict[str, str]:
    """The original's identifiers, which are kept secret inside the container."""
    found = {} if attributes is None else {name: text(attributes, name) for name in _ORIGINALS}
    return {name: value[:64] for name, value in found.items() if value}
