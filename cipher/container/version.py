"""Versions of objects, held and expected: the guard against an old version put back.

Encryption cannot tell that an intact object is last year's. Only knowledge outside the object can: each has an
identifier that is kept over its versions, and a version number, both authenticated; a reader that knows the
expected version (from `cipher.vault.ledger`, or a database of its own) gives it, and anything older is refused.
"""

from dataclasses import dataclass

from cipher.errors import Replayed


@dataclass(frozen=True, slots=True, order=True)
class ObjectVersion:
    """An object's identity and the count of its sealings."""

    object_id: str
    """32 hex digits."""
    number: int
    """1 for the first sealing."""

    def following(self) -> "ObjectVersion":
        """The next version of the same object."""
        return ObjectVersion(self.object_id, self.number + 1)

    def admit(self, found: "ObjectVersion") -> None:
        """Check that `found` is this object in this version, or in a later one.

        Raises:
            Replayed: another object, or an older version.
        """
        if found.object_id != self.object_id:
            raise Replayed(
                f"Expected object {self.object_id[:8]}, found {found.object_id[:8]}: intact, but in the wrong place."
            )
        if found.number < self.number:
            raise Replayed(
                f"Expected version {self.number} of object {self.object_id[:8]} or later, found version {found.number}"
                ": intact, but an older one was put back. Find out who replaced it, and restore the latest."
            )
