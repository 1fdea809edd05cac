"""Opening sealed files of either form in memory."""

import io
from pathlib import Path

from cipher.container.api import ObjectVersion, Opened, open_stream
from cipher.container.opening import Opening
from cipher.keys.vault_key import VaultKey
from cipher.vault.forms import sealed_container


def read_sealed(path: Path, vault_key: VaultKey) -> bytes:
    """The original file's bytes."""
    target = io.BytesIO()
    with sealed_container(path) as (inner, bound):
        open_stream(inner, target, vault_key, associated=bound)
    return target.getvalue()


def verify_sealed(path: Path, vault_key: VaultKey, *, expect: ObjectVersion | None = None) -> Opened:
    """Check every tag, and the data bound to it."""
    with sealed_container(path) as (inner, bound):
        opening = Opening(inner, vault_key, associated=bound, expect=expect)
        opening.verify()
        return opening.opened
