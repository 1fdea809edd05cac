"""Reader and writer of the bundle file: a JSON description and named tensors in one safetensors file.

It handles the members that both sides need (name, classes, policy, bound, head); `models.bundle` handles the extractor.
docs/bundle.md specifies the bytes.
"""

import json
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_safetensors

from he_infer.errors import DamagedBundle, HeadError, NotThisFormat, UnsupportedVersion
from he_infer.files import expect_file, write_bytes
from he_infer.head.layers import Head

FORMAT = "he-infer-bundle"
VERSION = 3
WHOLE, CLIENT, SERVER = PARTS = ("whole", "client", "server")
"""`whole`: the owner's model; `client`: without the head; `server`: without the extractor. Both parts are signed."""
MEMBER = "he_infer_bundle"
SUFFIX = ".hebundle"
POLICIES = ("hidden", "open")
"""`hidden`: the client sees only the scores; `open`: it may also see products of weights and features."""
MAX_DESCRIPTION = 1 << 20
"""Largest number of characters in the description, which is parsed before anything in it can be trusted."""
MAX_NAME = 200
"""Largest number of characters in the name of the model or of a class."""
HEAD_PREFIX = "head."
_INFINITY = 1e300
_JOINERS = "\u200c\u200d"
"""Zero-width joiners, which some scripts need within names."""


@dataclass(frozen=True, eq=False)
class BundleFile:
    """A bundle's description and tensors, checked as far as both sides need them.

    Raises:
        DamagedBundle: a member is missing, has another type, or contradicts the head.
        NotThisFormat, UnsupportedVersion: the description has another format or version.
        HeadError: the head cannot be computed under encryption.
    """

    description: Mapping[str, Any]
    tensors: Mapping[str, NDArray[Any]]

    def __post_init__(self) -> None:
        _check(self.description)
        if self.part == CLIENT:
            if any(name.startswith(HEAD_PREFIX) for name in self.tensors):
                raise DamagedBundle("The client's part holds a head, which it must not. Publish the model again.")
        elif self.head.classes != len(self.classes):
            raise DamagedBundle(f"It has {len(self.classes)} class names for a head of {self.head.classes} outputs.")

    @staticmethod
    def load(path: Path, prefix: str = "") -> "BundleFile":
        """Read a file, and only the tensors whose names begin with `prefix`.

        Raises:
            NotThisFormat: there is no such file, it is of another kind, or it is cut off.
            UnsupportedVersion: the bundle has another version.
            DamagedBundle, HeadError: as the class; the text names the file.
            UsageError: it is a pipe or a device.
            OSError: the file cannot be read.
        """
        expect_file(path)
        try:
            with path.open("rb"):
                pass  # an unreadable file or a folder is the system's own error, with its path
        except FileNotFoundError:
            raise NotThisFormat(
                f"There is no bundle {path}. Expected a file that 'he-infer train' wrote ({SUFFIX})."
            ) from None
        try:
            with safe_open(path, framework="numpy") as file:
                text = (file.metadata() or {}).get(MEMBER)
                description = _parse(text)
                # Checked before tensors are read: another version may store them in another form.
                _check_version(description)
                names = [name for name in file.keys() if name.startswith(prefix)]  # noqa: SIM118 - not a mapping
                tensors = {name: file.get_tensor(name) for name in names}
        except (SafetensorError, TypeError, AttributeError) as error:  # the last two: numbers that numpy does not have
            raise NotThisFormat(
                f"{path} is not a bundle, or is cut off: it cannot be read as safetensors. Fetch or export it again."
            ) from error
        except (NotThisFormat, UnsupportedVersion, DamagedBundle) as error:
            raise type(error)(f"{path}: {error}") from error
        try:
            return BundleFile(description, tensors)
        except (DamagedBundle, HeadError) as error:
            raise type(error)(f"{path}: {error} Export the bundle again.") from error

    @property
    def part(self) -> str:
        """Part of the model: `whole`, `client` or `server`."""
        return str(self.description["part"])

    @property
    def name(self) -> str:
        """The model's name, for people."""
        return str(self.description["name"])

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes in the order of the scores."""
        return tuple(self.description["classes"])

    @property
    def policy(self) -> str:
        """Policy: `hidden` or `open`."""
        return str(self.description["policy"])

    @property
    def input_bound(self) -> float:
        """The largest |feature| that the plan allows for."""
        return float(self.description["input_bound"])

    @cached_property
    def head(self) -> Head:
        """The classifier's head.

        Raises:
            HeadError: the encrypted computation does not support the layers.
            DamagedBundle: a tensor of the head is missing.
            NotThisFormat: the file is the client's part, which has no head.
        """
        if self.part == CLIENT:
            raise NotThisFormat("It is the client's part of a model, which holds no head. Give the server's part.")
        try:
            return Head.from_tensors(self.tensors, self.description["head"])
        except KeyError as error:
            raise DamagedBundle(f"The head's tensor {error} is missing.") from error

    def to_bytes(self) -> bytes:
        """Serialize the file. Equal bundles give equal bytes."""
        text = canonical(self.description)
        if len(text) > MAX_DESCRIPTION:
            raise DamagedBundle(f"The description has {len(text)} characters; at most {MAX_DESCRIPTION} are read.")
        tensors = {name: np.ascontiguousarray(tensor) for name, tensor in self.tensors.items()}
        written: bytes = to_safetensors(tensors, metadata={MEMBER: text})
        return written

    def save(self, path: Path) -> None:
        """Write the file, whole or not at all.

        Raises:
            OSError: the folder is missing or not writable.
        """
        write_bytes(path, self.to_bytes())


def canonical(description: Mapping[str, Any]) -> str:
    """Write a description as canonical JSON: sorted names, no spaces, non-ASCII characters not escaped."""
    return json.dumps(dict(description), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def describe(name: str, classes: tuple[str, ...], policy: str, input_bound: float, head: Head) -> dict[str, Any]:
    """Make the members of a description that both sides need."""
    layers = head.to_tensors()[1]
    return {
        "format": FORMAT,
        "version": VERSION,
        "part": WHOLE,
        "name": name,
        "classes": list(classes),
        "policy": policy,
        "input_bound": input_bound,
        "head": layers,
    }


def _parse(text: str | None) -> dict[str, Any]:
    if text is None:
        raise NotThisFormat(f"It is a safetensors file, but not a bundle: its metadata lacks '{MEMBER}'.")
    if len(text) > MAX_DESCRIPTION:
        raise DamagedBundle(f"The bundle's description is larger than {MAX_DESCRIPTION} characters.")
    try:
        description = json.loads(text)
        # Infinities, NaN and lone surrogates are no JSON: they have no canonical form, which is what is signed.
        json.dumps(description, allow_nan=False, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise DamagedBundle("The bundle's description is not JSON. Export the bundle again.") from error
    if not isinstance(description, dict):
        raise NotThisFormat("It is not a bundle: its description is not a JSON object.")
    return description


def _check_version(description: Mapping[str, Any]) -> None:
    if description.get("format") != FORMAT:
        raise NotThisFormat(f"It is not a bundle: its description does not name the format '{FORMAT}'.")
    version = description.get("version")
    if version != VERSION or isinstance(version, bool | float):
        raise UnsupportedVersion(
            f"This is a bundle of version {version!r}; this release reads version {VERSION}. Train or import the model "
            "again with this release, or use the release that wrote it."
        )


def _check(description: Mapping[str, Any]) -> None:
    _check_version(description)
    match description:
        case {
            "part": str(part),
            "name": str(),
            "classes": [*classes],
            "policy": str(policy),
            "input_bound": bound,
        } if part == CLIENT or isinstance(description.get("head"), list):
            if part not in PARTS:
                raise DamagedBundle(f"There is no part {part!r} of a bundle. Expected one of {', '.join(PARTS)}.")
            if len(classes) < 2 or not all(isinstance(name, str) for name in classes):
                raise DamagedBundle("'classes' must be a list of two or more names.")
            _check_names(str(description["name"]), classes)
            if policy not in POLICIES:
                raise DamagedBundle(f"There is no policy {policy!r}. Expected {' or '.join(POLICIES)}.")
            if isinstance(bound, bool) or not isinstance(bound, int | float) or not 0 < bound < _INFINITY:
                raise DamagedBundle(f"'input_bound' is {bound!r}. Expected a positive number.")
        case _:
            raise DamagedBundle(
                "The description is incomplete: a bundle states part, name, classes, policy, input_bound and head."
            )


def _check_names(model: str, classes: Sequence[str]) -> None:
    """Refuse names that a person cannot read or tell apart in a result."""
    for name in (model, *classes):
        if not name.strip() or len(name) > MAX_NAME or not all(map(_is_shown, name)):
            raise DamagedBundle(
                f"The name of the model or of a class is empty, longer than {MAX_NAME} characters, or not printable: "
                f"{name[:40]!a}."
            )
    if len({unicodedata.normalize("NFC", name).strip() for name in classes}) < len(classes):
        raise DamagedBundle("Two classes have the same name, so a result would not say which of them it is.")


def _is_shown(character: str) -> bool:
    return character.isprintable() or character in _JOINERS or unicodedata.category(character) == "Zs"
