"""A file that is changed in place is the one that has its name."""

import threading
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO

import pytest

from cipher.files import lock
from cipher.files.lock import exclusive, open_exclusive


def test_file_that_was_replaced_while_waiting_is_opened_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, new = tmp_path / "object", tmp_path / "new"
    path.write_bytes(b"old")
    new.write_bytes(b"new")
    seen: list[bytes] = []
    opened = threading.Event()

    def notice(handle: IO[bytes]) -> AbstractContextManager[None]:
        opened.set()
        return exclusive(handle)

    def change() -> None:
        with open_exclusive(path) as handle:
            seen.append(handle.read())
            handle.write(b" and changed")

    monkeypatch.setattr(lock, "exclusive", notice)
    with path.open("r+b") as held, exclusive(held):
        waiting = threading.Thread(target=change)
        waiting.start()
        assert opened.wait(60)
        new.replace(path)
    waiting.join(60)
    assert seen == [b"new"]
    assert path.read_bytes() == b"new and changed"
