"""The two parts of a published model as files: their content, and the check of their signature.

A part is a bundle file. Its description lists the SHA-256 of each of its tensors, so the digest of the description
covers the whole file. Both parts carry the same publication: the digests of both, the head's digest and the owner's
Ed25519 public key, signed by the owner. docs/bundle.md specifies the bytes.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from numpy.typing import NDArray

from he_infer.ckks.planning.plan import Plan
from he_infer.errors import DamagedBundle, FormatError, HeInferError, NotAuthentic, NotThisFormat
from he_infer.head.bundle import make_model_id
from he_infer.head.bundle_file import CLIENT, SERVER, BundleFile, canonical

CONTEXT = b"he-infer/bundle/v3\n"
"""Prefix of the publication in the signed message."""
QUESTIONS, ANSWERS = "canary.features", "canary.scores"
MAX_QUESTIONS = 64
"""Largest number of canary questions in a client's part: each reveals as much of the head as one query."""
_HEX = frozenset("0123456789abcdef")


@dataclass(frozen=True)
class Publication:
    """Statement that both parts hold and the owner signs."""

    client: str
    """SHA-256, hex, of the client's part without its publication and signature."""
    server: str
    """SHA-256, hex, of the server's part without its publication and signature."""
    head: str
    """Digest of the head, hex."""
    publisher: str
    """The owner's Ed25519 public key, hex."""

    @property
    def message(self) -> bytes:
        """Return the bytes that are signed."""
        return CONTEXT + canonical(self.to_json()).encode()

    def to_json(self) -> dict[str, Any]:
        """Return the member `publication` of a part."""
        return {"client": self.client, "head": self.head, "publisher": self.publisher, "server": self.server}

    def digest_of(self, part: str) -> str:
        """Return the digest of one of the parts."""
        return {CLIENT: self.client, SERVER: self.server}[part]

    def verify(self, signature: str) -> None:
        """Check the owner's signature.

        Raises:
            NotAuthentic: the signature is not this publisher's.
        """
        try:
            key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(self.publisher))
            key.verify(bytes.fromhex(signature), self.message)
        except (InvalidSignature, ValueError) as error:
            raise NotAuthentic("Its signature is not the publisher's: it was changed. Fetch it again.") from error


@dataclass(frozen=True, eq=False)
class ServerPart:
    """The server's part of a model: the head and its plans."""

    file: BundleFile
    publication: Publication
    plans: tuple[Plan, ...]
    """By batch size, smallest first."""

    @staticmethod
    def load(path: Path) -> "ServerPart":
        """Read and verify a server's part.

        Raises:
            NotThisFormat, UnsupportedVersion, DamagedBundle, HeadError, OSError: as `BundleFile.load`.
            NotAuthentic: the owner's signature does not cover it.
        """
        return ServerPart.of(path, BundleFile.load(path))

    @staticmethod
    def of(path: Path, file: BundleFile) -> "ServerPart":
        """Verify a server's part that was read already; raises as `load` does."""
        publication = _verify(path, file, SERVER)
        plans = _plans(path, file, publication.head)
        if file.head.digest != publication.head:
            raise NotAuthentic(f"{path}: its head is not the published one. Fetch the part again.")
        return ServerPart(file, publication, plans)


@dataclass(frozen=True, eq=False)
class ClientPart:
    """The client's part: everything that a client needs of a model, without the head."""

    file: BundleFile
    publication: Publication
    plans: tuple[Plan, ...]
    """By batch size, smallest first."""
    score_bounds: NDArray[np.float64] = field(repr=False)
    """(classes, 2) least and greatest score of each class for features within the bound."""
    questions: NDArray[np.float64] = field(repr=False)
    """(q, width) features of the canary questions; the first are all zero."""
    answers: NDArray[np.float64] = field(repr=False)
    """(q, classes) scores of the canary questions, computed in the clear."""

    @cached_property
    def model_id(self) -> str:
        """The model's id on the wire."""
        return make_model_id(self.file.name, self.publication.head)

    @staticmethod
    def load(path: Path) -> "ClientPart":
        """Read and verify a client's part.

        Raises:
            NotThisFormat, UnsupportedVersion, DamagedBundle, OSError: as `BundleFile.load`.
            NotAuthentic: the owner's signature does not cover it.
        """
        return ClientPart.of(path, BundleFile.load(path))

    @staticmethod
    def of(path: Path, file: BundleFile) -> "ClientPart":
        """Verify a client's part that was read already; raises as `load` does."""
        publication = _verify(path, file, CLIENT)
        plans = _plans(path, file, publication.head)
        classes, width = len(file.classes), plans[0].width
        try:
            bounds = np.array(file.description["score_bounds"], dtype=np.float64)
            questions, answers = (np.asarray(file.tensors[name], dtype=np.float64) for name in (QUESTIONS, ANSWERS))
        except (KeyError, TypeError, ValueError) as error:
            raise DamagedBundle(f"{path}: a client's part states score bounds and canary questions.") from error
        count = len(questions)
        fits = bounds.shape == (classes, 2) and bool((bounds[:, 0] <= bounds[:, 1]).all())
        fits = fits and questions.shape == (count, width) and answers.shape == (count, classes)
        fits = fits and 1 <= count <= MAX_QUESTIONS and not questions[0].any()
        fits = fits and all(bool(np.isfinite(values).all()) for values in (bounds, questions, answers))
        if not fits or float(np.abs(questions).max()) > file.input_bound:
            raise DamagedBundle(f"{path}: its score bounds or canary questions do not fit its plans.")
        return ClientPart(file, publication, plans, bounds, questions, answers)


def read_head_digest(path: Path) -> str:
    """Return the digest of a bundle's head: a client's part states it, the other parts hold the head.

    Raises:
        NotThisFormat, UnsupportedVersion, DamagedBundle, HeadError, OSError: as `BundleFile.load`.
        NotAuthentic: a part was changed after it was published.
    """
    file = BundleFile.load(path)
    if file.part == CLIENT:
        return ClientPart.of(path, file).publication.head
    if file.part == SERVER:
        return ServerPart.of(path, file).publication.head
    return file.head.digest


def read_publisher(path: Path) -> str | None:
    """Read who signed a client's part, hex; None where there is no such file, or none that verifies."""
    try:
        return ClientPart.load(path).publication.publisher
    except (HeInferError, OSError):
        return None


def digest(file: BundleFile) -> str:
    """Compute SHA-256, hex, of a part's description without `publication` and `signature`; it covers all tensors."""
    members = {name: value for name, value in file.description.items() if name not in ("publication", "signature")}
    return hashlib.sha256(canonical(members).encode()).hexdigest()


def hash_tensors(tensors: Mapping[str, NDArray[Any]]) -> dict[str, str]:
    """Compute SHA-256, hex, of each tensor: its type, its shape, and its little-endian bytes in C order."""
    hashes = {}
    for name, tensor in tensors.items():
        little = np.ascontiguousarray(tensor, dtype=tensor.dtype.newbyteorder("<"))
        shape = "x".join(map(str, tensor.shape))
        hashes[name] = hashlib.sha256(f"{tensor.dtype.name}:{shape}:".encode() + little.tobytes()).hexdigest()
    return hashes


def sign(client: BundleFile, server: BundleFile, key: Ed25519PrivateKey) -> tuple[BundleFile, BundleFile]:
    """Add to both parts the publication that names them and the owner's signature."""
    publisher = key.public_key().public_bytes_raw().hex()
    publication = Publication(digest(client), digest(server), server.head.digest, publisher)
    added = {"publication": publication.to_json(), "signature": key.sign(publication.message).hex()}
    signed = [BundleFile({**file.description, **added}, file.tensors) for file in (client, server)]
    return signed[0], signed[1]


def fingerprint(public_key: str) -> str:
    """Write a public key of 64 hex digits in groups of eight, so that people can compare it."""
    return " ".join(public_key[start : start + 8] for start in range(0, len(public_key), 8))


def _verify(path: Path, file: BundleFile, part: str) -> Publication:
    if file.part != part:
        raise NotThisFormat(
            f"{path} is the {file.part} part of a model; expected the {part} part. 'he-infer publish' writes both from "
            "a whole bundle."
            if file.part != "whole"
            else f"{path} is a whole bundle; expected the {part}'s part, which 'he-infer publish' writes."
        )
    match file.description:
        case {
            "publication": {
                "client": str(client),
                "head": str(head),
                "publisher": str(publisher),
                "server": str(server),
                **others,
            },
            "signature": str(signature),
            "tensors": dict(hashes),
        } if not others and all(len(text) == 64 and set(text) <= _HEX for text in (client, head, publisher, server)):
            publication = Publication(client, server, head, publisher)
        case _:
            raise DamagedBundle(f"{path}: a published part states its tensors, a publication and a signature.")
    try:
        publication.verify(signature)
    except NotAuthentic as error:
        raise NotAuthentic(f"{path}: {error}") from error
    if digest(file) != publication.digest_of(part) or hash_tensors(file.tensors) != hashes:
        raise NotAuthentic(f"{path} was changed after it was published: its digest differs. Fetch it again.")
    return publication


def _plans(path: Path, file: BundleFile, head: str) -> tuple[Plan, ...]:
    texts = file.description.get("plans")
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise DamagedBundle(f"{path}: a published part states at least one plan.")
    try:
        plans = tuple(Plan.from_json(text) for text in texts)
    except FormatError as error:
        raise type(error)(f"{path}: {error}") from error
    except HeInferError as error:
        raise DamagedBundle(f"{path}: {error} Publish the model again.") from error
    expected = (head, file.input_bound, len(file.classes), file.policy, plans[0].width)
    batches = [plan.batch for plan in plans]
    for plan in plans:
        if (plan.head_digest, plan.input_bound, plan.classes, plan.policy, plan.width) != expected:
            raise DamagedBundle(f"{path}: a plan was made for another head, bound or policy than the part states.")
    if batches != sorted(set(batches)):
        raise DamagedBundle(f"{path}: its plans are not one for each batch size, smallest first.")
    return plans
