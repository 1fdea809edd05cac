"""Replaces a key file's secret keys by fresh ones, and deletes replaced key sets at the server after their overlap.

Overlaps are counted by the server's clock: this machine's may be wrong, or jump.
"""

from dataclasses import replace
from pathlib import Path

from he_infer.client.connection.session import Session
from he_infer.client.key_registration import register_keys
from he_infer.client.keys.key_file import KeyFile


def rotate_keys(session: Session, keys: KeyFile, path: Path, overlap_seconds: float) -> KeyFile:
    """Register fresh keys for the same plans, then replace the key file. A failure leaves the file as it was.

    Args:
        session: the server.
        keys: the opened key file.
        path: the key file.
        overlap_seconds: time for which the server keeps the present key set, for other copies of the file.

    Raises:
        NotAuthentic: the server signs with another key than the pinned one.
        UsageError: the file was changed since these keys were read.
        RequestRefused, ServerError: see `Session.register`.
        OSError: the file cannot be written.
    """
    keys.expect_unchanged(path)
    fresh = keys.pinned(session.server_key).rotated(session.server_time + overlap_seconds)
    register_keys(session, fresh)
    fresh.save(path, update=True)
    return fresh


def prune_keys(session: Session, keys: KeyFile, path: Path) -> KeyFile:
    """Delete the replaced key sets at the server whose overlap has ended, and strike them from the key file.

    Raises:
        NotAuthentic: the server signs with another key than the pinned one.
        ServerError: see `Session.forget_keys`.
        OSError: the file cannot be written.
    """
    keys.pinned(session.server_key)
    now = session.server_time
    ended = {each.key_set for each in keys.retired if each.expires <= now}
    if not ended:
        return keys
    for entry in session.key_sets():
        if entry.key_set in ended:
            session.forget_keys(entry.plan, entry.key_set)
    pruned = replace(keys, retired=tuple(each for each in keys.retired if each.key_set not in ended))
    pruned.save(path, update=True)
    return pruned
