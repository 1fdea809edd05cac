"""A program that has held a key file open for long writes it back, over a file that was changed meanwhile.

Whoever a replaced key-encryption key shut out would be let in again, and a rotation would be undone.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from he_infer.ckks.planning.search import make_plan
from he_infer.client.connection.session import Session
from he_infer.client.key_rotation import prune_keys, rotate_keys
from he_infer.client.keys.key_file import KeyFile
from he_infer.client.keys.wrappings.passphrase import wrap_with_passphrase
from he_infer.errors import UsageError, WrongPassphrase
from he_infer.head.layers import Head, Linear

LEFT, STAYED = "words of a person who left", "words of those who stayed"
LATER = 2_000_000_000.0


class Server:
    """A server that keeps whatever it is given, and counts it."""

    server_key = "ab" * 32
    server_time = 1.0

    def __init__(self) -> None:
        self.registered = 0

    def key_sets(self) -> list[Any]:
        return []

    def register(self, *_: object) -> Any:
        self.registered += 1
        raise AssertionError("keys were registered that no file will hold")

    @property
    def session(self) -> Session:
        return cast(Session, self)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    rng = np.random.default_rng(1)
    head = Head((Linear(rng.normal(size=(3, 16)), rng.normal(size=3)),))
    file = tmp_path / "hospital.key"
    KeyFile.new([make_plan(head, input_bound=1.0)], server_key=Server.server_key).save(file, LEFT)
    return file


def shut_out(path: Path) -> bytes:
    """Replace the key-encryption key, as `keys wrappings replace` does; returns the file."""
    keys = KeyFile.load(path, LEFT)
    keys.with_new_key(lambda key: wrap_with_passphrase(key, STAYED)).save(path, update=True)
    return path.read_bytes()


WRITES: dict[str, Callable[[KeyFile, Path], object]] = {
    "a rotation": lambda keys, path: rotate_keys(Server().session, keys, path, 60.0),
    "a rotated file": lambda keys, path: keys.rotated(LATER).save(path, update=True),
    "pruned key sets": lambda keys, path: prune_keys(Server().session, keys.rotated(0.0), path),
    "a new signing key": lambda keys, path: keys.pinned("cd" * 32, accept_new=True).save(path, update=True),
    "a further way to open it": lambda keys, path: keys.with_custody(
        keys.custody.with_wrapping(wrap_with_passphrase(keys.custody.key, "a third one"))
    ).save(path, update=True),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_keys_held_open_do_not_undo_who_may_open_the_file(path: Path, write: Callable[[KeyFile, Path], object]) -> None:
    held = KeyFile.load(path, LEFT)
    after = shut_out(path)
    with pytest.raises(UsageError, match="changed since it was opened"):
        write(held, path)
    assert path.read_bytes() == after
    with pytest.raises(WrongPassphrase):
        KeyFile.load(path, LEFT)
    assert KeyFile.load(path, STAYED).key_set == held.key_set
    assert list(path.parent.iterdir()) == [path]


def test_keys_held_open_do_not_undo_a_rotation(path: Path) -> None:
    one, two = KeyFile.load(path, LEFT), KeyFile.load(path, LEFT)
    rotated = one.rotated(LATER)
    rotated.save(path, update=True)
    with pytest.raises(UsageError, match="changed since it was opened"):
        two.rotated(LATER).save(path, update=True)
    assert KeyFile.load(path, LEFT).key_set == rotated.key_set


def test_a_key_file_behind_a_link_is_the_one_that_changes(path: Path) -> None:
    link = path.with_name("link.key")
    link.symlink_to(path)
    shut_out(link)
    assert link.is_symlink()
    with pytest.raises(WrongPassphrase):
        KeyFile.load(path, LEFT)


def test_the_program_that_changed_the_file_last_changes_it_again(path: Path) -> None:
    keys = KeyFile.load(path, LEFT)
    for _ in range(3):
        keys = keys.rotated(LATER)
        keys.save(path, update=True)
    assert len(KeyFile.load(path, LEFT).retired) == 3
