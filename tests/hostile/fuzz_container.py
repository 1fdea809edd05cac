"""Coverage-guided fuzzing of everything that reads untrusted bytes in the image cipher (atheris, libFuzzer).

    python tests/hostile/fuzz_container.py -runs=100000

The first byte of an input chooses what is made of the rest: bytes as they come; a header in an object whose length
fits it, so that the parser is passed; an intact object of any form with some bytes overwritten; a
passphrase-protected blob whose checksum is right. It begins from the frozen vectors. Only the documented errors may
come out, and never a payload that was not sealed.
"""

import hashlib
import io
import json
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import atheris
import numpy as np
from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))  # run as a file, it finds the package beside it

with atheris.instrument_imports(include=["cipher"]):
    from cipher.container.api import describe, open_array, open_bytes, rekey_bytes, seal_array, seal_bytes, verify
    from cipher.container.beginning import recipient_position
    from cipher.container.header import MAGIC, PREFIX, SLOTS_AT, Kind
    from cipher.container.opening import Opening
    from cipher.dicom.object import read_object, write_object
    from cipher.dicom.region_object import compose
    from cipher.dicom.uids import Identifiers
    from cipher.errors import CipherError
    from cipher.keys import passphrase
    from cipher.keys.vault_key import VaultKey

KEY, OTHER = VaultKey(bytes(range(32))), VaultKey(bytes(32))
PAYLOAD = bytes(range(48))
FILE = seal_bytes(PAYLOAD, KEY)
ARRAY = seal_array(np.frombuffer(PAYLOAD, "<u2").reshape(4, 6), KEY)
MOST = 1 << 16


def dicom_object() -> bytes:
    """A sealed DICOM object around FILE."""
    item = Dataset()
    item.EncryptedContentTransferSyntaxUID = ExplicitVRLittleEndian
    item.EncryptedContent = bytes.fromhex("3003020101") + b"\0"
    target = io.BytesIO()
    write_object(target, io.BytesIO(FILE), len(FILE), Identifiers("HE-1", "2.25.1", "2.25.2", "2.25.3"), item)
    return target.getvalue()


DICOM = dicom_object()
_FROZEN = json.loads((ROOT / "tests" / "vectors" / "dicom-region-v1.json").read_text())
REGION, ORIGINAL = bytes.fromhex(_FROZEN["object"]), bytes.fromhex(_FROZEN["original"])


def as_it_comes(data: bytes) -> bytes:
    return data


def a_header(data: bytes) -> bytes:
    """Prefix and slots are right, the header is the input, the body as long as its numbers say, where that is short."""
    kind = 1 + data[0] % len(Kind) if data else 1
    header = data[1:]
    beginning = (
        PREFIX.pack(MAGIC, 2, kind, len(header), 4, 0) + FILE[SLOTS_AT : recipient_position(4)] + header + bytes(32)
    )
    payload = private = 0
    if len(header) >= 92:
        payload, _, private = struct.unpack_from("<QQI", header, 72)
    return beginning + bytes(min(payload + private + 32, MOST))


def patched(data: bytes) -> bytes:
    """An intact object with some bytes overwritten: pairs of place and value."""
    sealed = bytearray((FILE, ARRAY, DICOM, REGION)[len(data) % 4])
    for place, value in struct.iter_unpack("<HB", data[: len(data) // 3 * 3]):
        sealed[place % len(sealed)] = value
    return bytes(sealed)


def a_blob(data: bytes) -> bytes:
    """A passphrase blob of the cheapest cost, whatever the input says, with a right checksum."""
    head = bytearray(b"HEIP\1\0" + data)
    if len(head) > 20:
        head[6] = 2
        head[8:20] = struct.pack("<III", 8, 1, 1)
    return bytes(head) + hashlib.sha256(head).digest()[:8]


MAKERS = (as_it_comes, a_header, patched, a_blob)
READERS = (
    describe,
    lambda sealed: verify(sealed, KEY),
    lambda sealed: rekey_bytes(sealed, KEY, OTHER),
    lambda sealed: passphrase.open_(sealed, "right", "key"),
    lambda sealed: restore_region(sealed),
)


def restore_region(sealed: bytes) -> None:
    """What comes out of an image with a sealed region is the file that was sealed, or an error."""
    handle = io.BytesIO(sealed)
    found = read_object(handle)
    container = io.BytesIO(sealed[found.container_at : found.container_at + found.container_bytes])
    opening = Opening(container, KEY, associated=found.binding())
    if opening.header.kind is Kind.REGION and b"".join(compose(handle, opening)) != ORIGINAL:
        raise AssertionError("a file came out that was never sealed")


def one_input(data: bytes) -> None:
    if not data:
        return
    sealed = MAKERS[data[0] % len(MAKERS)](data[1:])
    for read in READERS:
        try:
            read(sealed)
        except CipherError:
            continue
    for opened in (lambda: open_bytes(sealed, KEY), lambda: open_array(sealed, KEY).tobytes()):
        try:
            payload = opened()
        except CipherError:
            continue
        if payload != PAYLOAD:
            raise AssertionError("a payload came out that was never sealed")


def seeds() -> list[bytes]:
    """Inputs that come to intact objects, so that the mutations begin where the parser has already been passed."""
    vectors = json.loads((ROOT / "tests" / "vectors" / "cipher-container-v2.json").read_text())
    found = []
    for text in vectors["objects"].values():
        sealed = bytes.fromhex(text)
        _, _, kind, length, recipients, _ = PREFIX.unpack_from(sealed)
        begin = recipient_position(recipients)
        found += [b"\0" + sealed, bytes([1, kind - 1]) + sealed[begin : begin + length]]
    found += [b"\3" + bytes.fromhex(text)[6:-8] for text in vectors["passphrase"].values()]
    return [
        *found,
        b"\0" + DICOM,
        b"\0" + REGION,
        b"\2",
        b"\2" + bytes(3),
        b"\2" + bytes(6),
        b"\2\0",
        b"\2\0\0",
        b"\2" + bytes(9),
    ]


def main() -> int:
    """Run the fuzzer in a process of its own: it ends its process itself, and the seeds must be removed after it."""
    if sys.argv[1:2] == ["fuzz"]:
        atheris.Setup([sys.argv[0], *sys.argv[2:]], one_input)
        atheris.Fuzz()
    with tempfile.TemporaryDirectory() as corpus:
        for number, seed in enumerate(seeds()):
            (Path(corpus) / f"{number}").write_bytes(seed)
        limits = ["-max_len=4096", "-timeout=10", "-rss_limit_mb=2048", f"-artifact_prefix={tempfile.gettempdir()}/"]
        command = [sys.executable, __file__, "fuzz", *limits, *sys.argv[1:], corpus]
        return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
