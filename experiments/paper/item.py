"""The types of an item of the paper: a request in; figures, tables and pictures out."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from experiments.present.drawing import Picture


@dataclass(frozen=True)
class PaperRequest:
    """The user's options; each item uses some of them."""

    console: Console
    image: str | None
    """DICOM, PNG or NumPy file, or the name of one that comes with pydicom; None: the item's own choice."""
    data: str | None
    """A classification set; None: the item's own choice."""
    bundle: Path | None
    """A trained bundle for the set; None: train one."""
    limit: int | None
    """Most test images to classify; None: all."""
    epochs: int | None
    """Passes over the training images, where a model is trained."""
    keys: int
    """Fresh keys, or key streams, to measure."""
    seed: int


@dataclass(frozen=True)
class PaperResult:
    """Results of an item."""

    title: str
    parameters: Mapping[str, Any]
    figures: Mapping[str, Any]
    picture: Picture
    lines: tuple[str, ...]
    """Sentences for the terminal."""
    tables: Mapping[str, str] = field(default_factory=dict)
    """File name -> Markdown."""
    more: Mapping[str, Picture] = field(default_factory=dict)
    """Further pictures by file name without suffix."""
