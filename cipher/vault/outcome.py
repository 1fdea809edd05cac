"""Outcome of the work on one item."""

from dataclasses import dataclass
from enum import StrEnum

from cipher.container.version import ObjectVersion


class Did(StrEnum):
    """Action that was taken on an item."""

    SEALED = "sealed"
    SEALED_ANEW = "sealed anew"
    ALREADY_THERE = "already there"
    RESTORED = "restored"
    VERIFIED = "verified"
    REKEYED = "rekeyed"
    SHARED = "shared"
    UNSHARED = "unshared"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of work on one item."""

    did: Did
    path: str
    """Path of the result."""
    version: ObjectVersion | None = None
    plain_bytes: int = 0
    sealed_bytes: int = 0
    remark: str = ""
    note: str = ""
    """Note for the user: another name was taken, a link leads out of the tree."""
    stored: str = ""
    """The stored path of the object."""
    origin: str = ""
    """Path that the file was sealed from."""
