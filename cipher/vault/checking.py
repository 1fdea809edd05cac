"""Checking sealed objects, and changing who opens them: another vault key, further recipients."""

from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

from cipher.container.opening import Opening
from cipher.container.sealing import Progress
from cipher.container.sharing import share_stream, unshare_stream
from cipher.container.unlock import OpeningKey
from cipher.keys.vault_key import VaultKey
from cipher.vault.find import Found
from cipher.vault.forms import changing, rekey_path, sealed_container
from cipher.vault.outcome import Did, Outcome
from cipher.vault.protecting import Versions, admit


@dataclass(frozen=True, slots=True)
class Verifying:
    """Work on a sealed object: check every tag, the data bound to it, and its version."""

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


@dataclass(frozen=True, slots=True)
class Sharing:
    """Work on a sealed object: let further public keys open it, in place."""

    key: OpeningKey = field(repr=False)
    recipients: tuple[bytes, ...]
    """X25519 public keys, 32 bytes each."""
    recovery: bool = False

    def __call__(self, found: Found, moved: Progress) -> Outcome:
        """Share one object.

        Raises:
            BadKey: no slot is free.
            As `cipher.vault.forms.rekey_path`.
        """
        with changing(found.path) as inner:
            new = [
                share_stream(inner, self.key, X25519PublicKey.from_public_bytes(raw), recovery=self.recovery)
                for raw in self.recipients
            ]
        moved(found.size)
        return Outcome(Did.SHARED if any(new) else Did.ALREADY_THERE, str(found.path), sealed_bytes=found.size)


@dataclass(frozen=True, slots=True)
class Unsharing:
    """Work on a sealed object: remove public keys, in place."""

    key: OpeningKey = field(repr=False)
    key_ids: tuple[str, ...]

    def __call__(self, found: Found, moved: Progress) -> Outcome:
        """Unshare one object.

        Raises:
            As `cipher.vault.forms.rekey_path`.
        """
        with changing(found.path) as inner:
            gone = [unshare_stream(inner, self.key, key_id) for key_id in self.key_ids]
        moved(found.size)
        absent = [key_id[:8] for key_id, was in zip(self.key_ids, gone, strict=True) if not was]
        note = f"was not shared with {', '.join(absent)}" if absent else ""
        return Outcome(Did.UNSHARED if any(gone) else Did.ALREADY_THERE, str(found.path), note=note)
