"""The classifier's head, classes and policy from a bundle, as client and server need them; without torch."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from he_infer.head.bundle_file import HEAD_PREFIX, BundleFile
from he_infer.head.layers import Head


@dataclass(frozen=True)
class HeadBundle:
    """Head, classes and policy of a bundle."""

    name: str
    classes: tuple[str, ...]
    policy: str
    """`hidden`: the client sees only the scores; `open`: it may also see products of weights and features."""
    input_bound: float
    """Largest |feature| that the head accepts; the plan is made for it and the client checks it."""
    head: Head
    metadata: Mapping[str, Any]
    """The whole JSON description, with the members that this class does not read."""

    @property
    def model_id(self) -> str:
        """The model's name on the wire: its name reduced to `a-z 0-9 . _ -`, and 8 digits of the head's digest."""
        return make_model_id(self.name, self.head.digest)

    @staticmethod
    def load(path: Path) -> "HeadBundle":
        """Read a bundle file's head; the extractor's tensors are not read.

        Raises:
            NotThisFormat, UnsupportedVersion, DamagedBundle, HeadError, OSError: as `BundleFile.load`.
        """
        return HeadBundle.of(BundleFile.load(path, HEAD_PREFIX))

    @staticmethod
    def of(file: BundleFile) -> "HeadBundle":
        """Take the head from a file that was read already."""
        return HeadBundle(
            name=file.name,
            classes=file.classes,
            policy=file.policy,
            input_bound=file.input_bound,
            head=file.head,
            metadata=MappingProxyType(dict(file.description)),
        )


def make_model_id(name: str, head_digest: str) -> str:
    """Make a model's name on the wire: its name reduced to `a-z 0-9 . _ -`, and 8 digits of the head's digest."""
    slug = re.sub(r"[^a-z0-9._-]+", "-", name.lower()).strip("-.")[:48] or "model"
    return f"{slug}-{head_digest[:8]}"
