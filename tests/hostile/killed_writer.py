"""Kills a writer at every line that it executes, and checks the files that are left.

    python -m tests.hostile.killed_writer seal|restore|rekey|share|save|dicom FOLDER

The writer runs in a forked child that is traced line by line; at line n of the writing modules the child sends itself
SIGKILL. For n = 0, 1, 2, ... until a child finishes, the parent looks at the files. Prints the number of points tried;
exits with 1 at the first file that is neither the old one nor the new one.
"""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from cipher.container import api as container
from cipher.container import object_keys as keys
from cipher.container import records as record
from cipher.container import rekey, sealing, sharing
from cipher.container.api import Options, open_bytes, open_file, rekey_file, seal_bytes, seal_file
from cipher.container.opening import Opening
from cipher.dicom import object as dicom_object
from cipher.dicom import sealed as dicom
from cipher.dicom.recipient import Recipient
from cipher.errors import Damaged, WrongKey
from cipher.files import atomic
from cipher.keys.passphrase import ARGON2ID, Cost
from cipher.keys.recipient_key import RecipientKey
from cipher.keys.vault_key import VaultKey
from cipher.vault import checking, forms
from cipher.vault.checking import Sharing
from cipher.vault.find import Found
from cipher.vault.forms import seal_path
from tests.cipher.opening import read_sealed
from tests.cipher.packaged import packaged

KEY, OTHER = VaultKey(bytes(range(32))), VaultKey(bytes(32))
TRACED = {
    module.__file__
    for module in (atomic, checking, container, dicom, dicom_object, forms, keys, record, rekey, sealing, sharing)
}
CHEAP = Cost(ARGON2ID, 64, 1, 1)
OLD, NEW = b"old" * 1000, b"new" * 1500


def main(what: str, folder: Path) -> int:
    prepare, write, look = SCENES[what]
    point = 0
    while True:
        prepare(folder)
        child = os.fork()
        if child == 0:
            _run_until(point, lambda: write(folder))
        _, status = os.waitpid(child, 0)
        wrong = look(folder)
        if wrong:
            print(f"killed at point {point}: {wrong}")
            return 1
        if os.WIFEXITED(status):
            print(point)
            return os.WEXITSTATUS(status)
        point += 1


def _run_until(point: int, write: Callable[[], object]) -> None:
    """In the child: write, and die at the line of this number."""
    left = point

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal left
        if frame.f_code.co_filename not in TRACED:
            return None
        if event == "line":
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1
        return trace

    sys.settrace(trace)
    try:
        write()
    except BaseException as error:
        sys.settrace(None)
        print(repr(error))
        os._exit(3)
    sys.settrace(None)
    os._exit(0)


def _prepare_seal(folder: Path) -> None:
    (folder / "plain").write_bytes(NEW)
    (folder / "object").write_bytes(seal_bytes(OLD, KEY))


def _seal(folder: Path) -> None:
    seal_file(folder / "plain", folder / "object", KEY, options=Options(chunk_bytes=1000))


def _look_sealed(folder: Path) -> str:
    found = open_bytes((folder / "object").read_bytes(), KEY)
    return "" if found in (OLD, NEW) else f"the object opens to {len(found)} other bytes"


def _prepare_restore(folder: Path) -> None:
    (folder / "object").write_bytes(seal_bytes(NEW, KEY, options=Options(chunk_bytes=1000)))
    (folder / "plain").write_bytes(OLD)


def _restore(folder: Path) -> None:
    open_file(folder / "object", folder / "plain", KEY)


def _look_restored(folder: Path) -> str:
    found = (folder / "plain").read_bytes()
    return "" if found in (OLD, NEW) else f"the restored file has {len(found)} other bytes"


def _rekey(folder: Path) -> None:
    rekey_file(folder / "object", KEY, OTHER)


def _look_rekeyed(folder: Path) -> str:
    """Either key opens it, and running the rekey again finishes it."""
    sealed = (folder / "object").read_bytes()
    opened = []
    for key in (KEY, OTHER):
        try:
            opened.append(open_bytes(sealed, key))
        except WrongKey:
            continue
    if not opened or set(opened) != {OLD}:
        return f"{len(opened)} keys open it"
    _rekey(folder)
    return "" if open_bytes((folder / "object").read_bytes(), OTHER) == OLD else "it could not be finished"


_RECIPIENTS = [RecipientKey.generate() for _ in range(2)]


def _share(folder: Path) -> None:
    found = Found(folder / "object", "object", 0)
    Sharing(KEY, tuple(key.public.public_bytes_raw() for key in _RECIPIENTS))(found, lambda count: None)


def _look_shared(folder: Path) -> str:
    """The vault's key opens it, or a half-written slot is seen; sharing again finishes it."""
    try:
        if open_bytes((folder / "object").read_bytes(), KEY) != OLD:
            return "the object opens to other bytes"
    except Damaged as error:
        if "half written" not in str(error):
            return str(error)
    _share(folder)
    for key in (KEY, *_RECIPIENTS):
        with (folder / "object").open("rb") as handle:
            if b"".join(map(bytes, Opening(handle, key).payload())) != OLD:
                return "it could not be finished"
    return ""


def _save(folder: Path) -> None:
    KEY.save(folder / "key", "old", cost=CHEAP)


def _look_saved(folder: Path) -> str:
    """The key is there whole, or not at all."""
    if not (folder / "key").exists():
        return ""
    return "" if VaultKey.load(folder / "key", "old") == KEY else "another key"


_IMAGES = [packaged("MR_small_RLE.dcm"), packaged("OBXXXX1A_rle.dcm")]
_CERTIFICATES = [Recipient.generate().certificate]


def _seal_dicom(folder: Path, number: int) -> None:
    seal_path(_IMAGES[number], folder / "object", KEY, "dicom", recipients=_CERTIFICATES)


def _look_dicom(folder: Path) -> str:
    found = read_sealed(folder / "object", KEY)
    return "" if found in [image.read_bytes() for image in _IMAGES] else "the object holds another file"


SCENES: dict[str, tuple[Callable[[Path], object], Callable[[Path], object], Callable[[Path], str]]] = {
    "seal": (_prepare_seal, _seal, _look_sealed),
    "restore": (_prepare_restore, _restore, _look_restored),
    "share": (lambda folder: (folder / "object").write_bytes(seal_bytes(OLD, KEY)), _share, _look_shared),
    "rekey": (lambda folder: (folder / "object").write_bytes(seal_bytes(OLD, KEY)), _rekey, _look_rekeyed),
    "dicom": (lambda folder: _seal_dicom(folder, 0), lambda folder: _seal_dicom(folder, 1), _look_dicom),
    "save": (lambda folder: (folder / "key").unlink(missing_ok=True), _save, _look_saved),
}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2])))
