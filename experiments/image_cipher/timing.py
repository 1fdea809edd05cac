"""Times of ciphers on one image, taken in turns, so that a busy machine slows all of them alike.

Knows nothing of the command line. Speeds are megabytes (10^6 bytes) of pixels a second on one thread: by the thread's
processor time, which other programs on the machine disturb least, and by the clock.
"""

import io
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from numpy.typing import NDArray

from cipher.algorithm.engine import Engine, by_name
from cipher.algorithm.gmac import hash_whole
from cipher.algorithm.inner import decrypt_image, encrypt_image
from cipher.container.api import open_array, seal_array
from cipher.keys.vault_key import VaultKey
from experiments.image_cipher import chaotic_peer

Image = NDArray[np.generic]

AES = "AES-256-GCM alone"
OURS = "inner cipher, numba"
INNER_PASSES = "AES passes of the inner cipher"
SEALED_PASSES = "AES passes of the container"
NUMPY = "inner cipher, numpy alone"
SEALED = "sealed container, numba"
CHAOTIC = "chaotic toy"


@dataclass(frozen=True, slots=True)
class TimedCipher:
    """A cipher to time."""

    name: str
    encrypt: Callable[[Image], Any]
    decrypt: Callable[[Any], bytes]
    """Decrypts what `encrypt` gave into the image's bytes."""


@dataclass(frozen=True, slots=True)
class CipherSpeed:
    """Speed of a cipher on an image, on one thread."""

    subject: str
    image: str
    repeats: int
    encrypt_mb_per_s: float
    """By the median processor time."""
    decrypt_mb_per_s: float
    encrypt_mb_per_s_clock: float
    """By the median time on the clock."""
    decrypt_mb_per_s_clock: float
    aes_takes: float
    """Time of encrypting over AES-256-GCM's time, by the medians of this run."""
    faster_than_toy: float
    """Time of the chaotic toy's encrypting over this one's, by the medians of this run."""


def list_subjects() -> list[TimedCipher]:
    """List the ciphers to compare; those that need numba only where it is installed."""
    key = os.urandom(32)
    found = [_aes(key), _passes(INNER_PASSES, key, sealed=False), _passes(SEALED_PASSES, key, sealed=True)]
    try:
        found.append(_inner(OURS, by_name("numba"), key))
        found.append(_sealed(VaultKey(key)))
    except ValueError:
        pass
    found.append(_inner(NUMPY, by_name("numpy"), key))
    found.append(
        TimedCipher(
            CHAOTIC,
            lambda image: chaotic_peer.encrypt(image, key),
            lambda made: chaotic_peer.decrypt(made, key).tobytes(),
        )
    )
    return found


def time_all(
    image: Image,
    repeats: int,
    progress: Callable[[int], None],
    chosen: Sequence[TimedCipher] | None = None,
    *,
    in_a_row: int = 1,
) -> list[CipherSpeed]:
    """Time every subject on an image.

    Args:
        image: 8 or 16 bit.
        repeats: timed rounds, after one round that is not counted (numba compiles in it).
        progress: called with the rounds done, `repeats + 1` in all.
        chosen: the subjects, AES among them; all if not given.
        in_a_row: times that a subject encrypts and decrypts the image in its turn, as it does with a folder of small
            images. After another subject's turn its code and tables are no longer in the processor's cache.

    Raises:
        RuntimeError: a subject did not give back what it was given.
    """
    chosen = chosen or list_subjects()
    plain = image.tobytes()
    took: dict[str, list[NDArray[np.float64]]] = {subject.name: [] for subject in chosen}
    for round_number in range(repeats + 1):
        for subject in chosen:
            spent = np.zeros(4)
            for _ in range(in_a_row):
                began = _now()
                made = subject.encrypt(image)
                between = _now()
                back = subject.decrypt(made)
                spent += (*(between - began), *(_now() - between))
                if back != plain:
                    raise RuntimeError(f"{subject.name} did not give back the image.")
            if round_number:
                took[subject.name].append(spent / in_a_row)
        progress(round_number + 1)
    described = f"{' x '.join(map(str, image.shape))} {image.dtype}"
    if in_a_row > 1:
        described = f"{in_a_row} of {described}"
    # Seconds: encrypting by processor and clock, decrypting by processor and clock.
    medians = {name: np.median(np.array(times), axis=0) for name, times in took.items()}
    megabytes = image.nbytes / 1e6
    toy = medians[CHAOTIC][0] if CHAOTIC in medians else math.nan
    return [
        CipherSpeed(
            subject=name,
            image=described,
            repeats=repeats,
            encrypt_mb_per_s=float(megabytes / median[0]),
            decrypt_mb_per_s=float(megabytes / median[2]),
            encrypt_mb_per_s_clock=float(megabytes / median[1]),
            decrypt_mb_per_s_clock=float(megabytes / median[3]),
            aes_takes=float(median[0] / medians[AES][0]),
            faster_than_toy=float(toy / median[0]),
        )
        for name, median in medians.items()
    ]


def _now() -> NDArray[np.float64]:
    return np.array([time.thread_time(), time.perf_counter()])


def _aes(key: bytes) -> TimedCipher:
    sealing, nonce = AESGCM(key), bytes(12)
    return TimedCipher(
        AES,
        lambda image: sealing.encrypt(nonce, image.reshape(-1).view(np.uint8).data, None),
        lambda made: sealing.decrypt(nonce, made, None),
    )


def _passes(name: str, key: bytes, *, sealed: bool) -> TimedCipher:
    """Time only the passes over the image that the cipher leaves to `cryptography`: a lower bound of its own time.

    The inner cipher makes a GMAC, AES-CTR and a second GMAC; the container (`sealed`) adds the hedging GMAC and
    AES-256-GCM. All work in place, in memory that is used again.
    """
    sealing, nonce = AESGCM(key), bytes(12)
    rooms: dict[int, NDArray[np.uint8]] = {}

    def add_stream(data: memoryview) -> None:
        hash_whole(key, data)
        Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor().update_into(data, data)
        hash_whole(key, data)

    def encrypt(image: Image) -> memoryview:
        room = rooms.setdefault(image.nbytes, np.empty(2 * image.nbytes + 16, np.uint8))
        plain, made = room[: image.nbytes].data, room[image.nbytes :].data
        if sealed:
            hash_whole(key, image.reshape(-1).view(np.uint8).data)
        plain[:] = image.reshape(-1).view(np.uint8).data
        add_stream(plain)
        if not sealed:
            return plain
        sealing.encrypt_into(nonce, plain, None, made)
        return made

    def decrypt(made: memoryview) -> bytes:
        if sealed:
            plain = rooms[len(made) - 16][: len(made) - 16].data
            sealing.decrypt_into(nonce, made, None, plain)
            made = plain
        add_stream(made)
        return bytes(made)

    return TimedCipher(name, encrypt, decrypt)


def _inner(name: str, engine: Engine, key: bytes) -> TimedCipher:
    """The inner cipher under a fresh salt each time: its networks have from 4 to 7 layers of 4 to 6 nodes."""

    def encrypt(image: Image) -> tuple[bytes, Image]:
        salt = os.urandom(16)
        return salt, encrypt_image(image, key, salt, engine=engine)

    return TimedCipher(name, encrypt, lambda made: decrypt_image(made[1], key, made[0], engine=engine).tobytes())


def _sealed(vault_key: VaultKey) -> TimedCipher:
    """The whole container in memory: hedging, the inner cipher and AES-256-GCM; no disk."""
    return TimedCipher(
        SEALED, lambda image: seal_array(image, vault_key), lambda made: open_array(made, vault_key).tobytes()
    )


@dataclass(frozen=True, slots=True)
class FolderSpeed:
    """A folder of DICOM files, from the files to their synced sealed objects, beside a plain copy with sync."""

    files: int
    jobs: int
    """Files worked on at a time."""
    megabytes: float
    seconds: float
    copy_seconds: float
    """Seconds in which the same files were read, written elsewhere on the same disk, and synced one by one."""

    @property
    def mb_per_s(self) -> float:
        """Megabytes of the files' bytes a second."""
        return self.megabytes / self.seconds

    @property
    def copy_mb_per_s(self) -> float:
        """The plain copy's megabytes a second."""
        return self.megabytes / self.copy_seconds


def time_folder(folder: Path, files: int, side: int, jobs: int | None, progress: Callable[[int], None]) -> FolderSpeed:
    """Seal a folder of 16-bit DICOM files of `side` x `side` pixels as `he-infer protect` does.

    Args:
        folder: an empty one; files, copies and vault are made in it.
        files: number of files.
        side: side of each image, in pixels.
        jobs: files worked on at a time; as many as `protect` takes if not given.
        progress: called with the files done.

    Raises:
        RuntimeError: a file was not sealed.
    """
    from cipher.files.folder_syncs import FolderSyncs
    from cipher.vault.find import survey
    from cipher.vault.outcome import Did
    from cipher.vault.protecting import Protecting
    from cipher.vault.tally import work_on
    from he_infer.machine import usable_cores

    source = folder / "source"
    source.mkdir()
    for number in range(files):
        (source / f"{number}.dcm").write_bytes(_dicom(side, number))
    found = survey([source]).found
    key = VaultKey.generate()
    seal_array(make_test_image(64, np.uint16), key)  # machine code is loaded
    syncs = FolderSyncs()
    os.sync()
    copy_seconds = _time_copy(source, folder / "copy")
    tally = work_on(
        "protect",
        Protecting(folder / "vault", key, syncs=syncs),
        found,
        jobs=jobs,
        cores=usable_cores(),
        syncs=syncs,
        progress=lambda done, _: progress(done),
    )
    if tally.count(Did.SEALED) != files:
        raise RuntimeError("A file of the folder was not sealed.")
    return FolderSpeed(files, tally.jobs, sum(file.size for file in found) / 1e6, tally.seconds, copy_seconds)


def _time_copy(source: Path, target: Path) -> float:
    """Seconds of a plain copy of a folder's files, each synced, and the folder after each."""
    began = time.perf_counter()
    target.mkdir()
    for path in sorted(source.iterdir()):
        with (target / path.name).open("wb") as handle:
            handle.write(path.read_bytes())
            handle.flush()
            os.fsync(handle.fileno())
        entry = os.open(target, os.O_RDONLY)
        os.fsync(entry)
        os.close(entry)
    return time.perf_counter() - began


def _dicom(side: int, seed: int) -> bytes:
    from pydicom import Dataset, dcmwrite
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = SecondaryCaptureImageStorage
    dataset.SOPInstanceUID = generate_uid()
    dataset.Rows = dataset.Columns = side
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
    dataset.PixelData = make_test_image(side, np.uint16, seed).tobytes()
    target = io.BytesIO()
    dcmwrite(target, dataset, enforce_file_format=True)
    return target.getvalue()


def make_test_image(side: int, dtype: type[np.uint8] | type[np.uint16], seed: int = 1) -> Image:
    """A smooth image with noise, 12 bits of 16 or all of 8."""
    rng = np.random.default_rng(seed)
    row = np.linspace(-2, 2, side)
    bump = np.exp(-(row[:, None] ** 2 + row[None, :] ** 2))
    most = 255 if dtype is np.uint8 else 4095
    values = bump * (0.9 * most) + rng.normal(0, 0.01 * most, (side, side))
    return np.clip(values, 0, most).astype(dtype)
