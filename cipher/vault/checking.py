"""Checking sealed objects, and giving them another vault key."""

from dataclasses import dataclass, field

from cipher.container.sealing import Opening, Progress
from cipher.keys.vault_key import VaultKey
from cipher.vault.find import Found
from cipher.vault.forms import rekey_path, sealed_container
from cipher.vault.outcome import Did, Outcome
from cipher.vault.protecting import Versions, admit


@dataclass(frozen=True, slots=True)
class Verifying:
    """Work on a sealed object: check every tag, what is bound around it, and its version."""

    vault_key: VaultKey = field(repr=False)
    versions: Versions = field(default_factory=dict)

    def __call__(self, found: Found, moved: Progress) -> Outcome:
        """Verify one object.

        Raises:
            As `cipher.vault.forms.open_path`.
        """
        with sealed_container(found.path) as (inner, bound):
            opening = Opening(inner, self.vault_key, associated=bound)
            admit(self.versions, opening.version)
            opening.verify(moved)
        private = opening.opened.private
        return Outcome(
            Did.VERIFIED,
            str(found.path),
            opening.version,
            opening.header.payload_bytes,
            found.size,
            stored=private.get("path", ""),
            origin=private.get("origin", ""),
        )


@dataclass(frozen=True, slots=True)
class Rekeying:
    """Work on a sealed object: make another vault key the only one that opens it, in place."""

    old: VaultKey = field(repr=False)
    new: VaultKey = field(repr=False)

    def __call__(self, found: Found, moved: Progress) -> Outcome:
        """Rekey one object.

        Raises:
            As `cipher.vault.forms.rekey_path`.
        """
        changed = rekey_path(found.path, self.old, self.new)
        moved(found.size)
        return Outcome(Did.REKEYED if changed else Did.ALREADY_THERE, str(found.path), sealed_bytes=found.size)
