"""Reads what the encrypted computation needs of a bundle file: head, classes, policy. Without torch, for both sides.

A bundle (.hebundle) is a safetensors file whose metadata member `he_infer_bundle` is a JSON object; docs/bundle.md has
the format. The extractor's tensors are not read here.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from safetensors import SafetensorError, safe_open

from he_infer.errors import NotThisFormat, UnsupportedVersion
from he_infer.head.layers import Head

FORMAT = "he-infer-bundle"
VERSIONS = (1, 2)
"""Version 2 adds the measured sizes of what goes into activations."""
MEMBER = "he_infer_bundle"
POLICIES = ("hidden", "open")


@dataclass(frozen=True)
class HeadBundle:
    """The classifier's head as a bundle file states it."""

    name: str
    classes: tuple[str, ...]
    policy: str
    """`hidden`: the server finishes all sums; `open`: the client may see products of weights and features."""
    input_bound: float
    """Largest |feature| that the head is to be fed; the plan is made for it and the client checks it."""
    head: Head
    metadata: Mapping[str, Any]
    """The whole JSON object, for what else it says."""

    @property
    def model_id(self) -> str:
        """What the model is called on the wire: its name reduced to `a-z 0-9 . _ -`, and 8 digits of the digest."""
        slug = re.sub(r"[^a-z0-9._-]+", "-", self.name.lower()).strip("-.")[:48] or "model"
        return f"{slug}-{self.head.digest[:8]}"

    @staticmethod
    def load(path: Path) -> "HeadBundle":
        """Read a bundle file's head.

        Raises:
            NotThisFormat: not a bundle, or one that contradicts itself.
            UnsupportedVersion: a bundle of another version.
            HeadError: a head that the encrypted computation does not carry.
            OSError: the file cannot be read.
        """
        with path.open("rb"):
            pass  # a missing or unreadable file is the system's own error, with its path
        try:
            with safe_open(path, framework="numpy") as file:
                described = (file.metadata() or {}).get(MEMBER)
                metadata = _parse(path, described)
                names = [key for key in file.keys() if key.startswith("head.")]  # noqa: SIM118 - not a mapping
                tensors = {name: file.get_tensor(name) for name in names}
        except SafetensorError as error:
            raise NotThisFormat(f"{path} is not a bundle: it is not a safetensors file, or it is damaged.") from error
        try:
            head = Head.from_tensors(tensors, metadata["head"])
        except KeyError as error:
            raise NotThisFormat(f"{path} is damaged: the head's tensor {error} is missing. Export it again.") from error
        classes = tuple(metadata["classes"])
        if len(classes) != head.classes:
            raise NotThisFormat(
                f"{path} contradicts itself: {len(classes)} class names for a head of {head.classes} outputs."
            )
        return HeadBundle(
            name=metadata["name"],
            classes=classes,
            policy=metadata["policy"],
            input_bound=float(metadata["input_bound"]),
            head=head,
            metadata=MappingProxyType(metadata),
        )


def _parse(path: Path, described: str | None) -> dict[str, Any]:
    if described is None:
        raise NotThisFormat(f"{path} is a safetensors file but not a bundle: its metadata lacks '{MEMBER}'.")
    try:
        metadata = json.loads(described)
    except (ValueError, RecursionError) as error:
        raise NotThisFormat(f"{path} is damaged: its description is not JSON.") from error
    if not isinstance(metadata, dict) or metadata.get("format") != FORMAT:
        raise NotThisFormat(f"{path} is not a bundle: its description does not name the format '{FORMAT}'.")
    if metadata.get("version") not in VERSIONS:
        raise UnsupportedVersion(
            f"{path} is a bundle of version {metadata.get('version')}; this release reads versions {VERSIONS[0]} and "
            f"{VERSIONS[1]}."
        )
    match metadata:
        case {
            "name": str(),
            "classes": [str(), str(), *rest],
            "policy": str(policy),
            "head": list(),
            "input_bound": bound,
        }:
            if not all(isinstance(name, str) for name in rest):
                raise NotThisFormat(f"{path} is damaged: a class name is not text.")
            if policy not in POLICIES:
                raise NotThisFormat(f"{path} names the policy {policy!r}; expected one of {', '.join(POLICIES)}.")
            if isinstance(bound, bool) or not isinstance(bound, int | float) or not 0 < bound < float("inf"):
                raise NotThisFormat(f"{path} is damaged: 'input_bound' must be a positive number.")
            return metadata
        case _:
            raise NotThisFormat(
                f"{path} is damaged: a bundle states name, at least two classes, policy, input_bound and head."
            )
