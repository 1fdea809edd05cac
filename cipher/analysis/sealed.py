"""Damage to a sealed object, which must be refused without showing anything."""

import numpy as np

from cipher.analysis.line import Line, exact
from cipher.analysis.pixels import Image
from cipher.analysis.suite import Seeds
from cipher.container.api import open_array, seal_array
from cipher.errors import CipherError
from cipher.keys.vault_key import VaultKey

GROUP = "sealed image"


def refusals(image: Image, trials: int, seeds: Seeds) -> Line:
    """Seal the image, damage the object in `trials` ways, and count the refusals.

    Single bits, salt-and-pepper bytes, blackened stretches and cuts, in turn and at random places.
    """
    rng = seeds.generator("sealed")
    key = VaultKey(seeds.key("vault", 0))
    sealed = seal_array(image, key)
    refused = 0
    for trial in range(trials):
        try:
            open_array(_damaged(sealed, trial, rng), key)
        except CipherError:
            refused += 1
    return exact(
        GROUP,
        "damaged sealed images refused",
        refused / trials,
        refused == trials,
        criterion="all of them, and nothing of the image shown",
        source="AES-256-GCM, NIST SP 800-38D; `cipher.container.api`",
        keys=trials,
    )


def _damaged(sealed: bytes, trial: int, rng: np.random.Generator) -> bytes:
    data = np.frombuffer(bytearray(sealed), dtype=np.uint8)
    place = int(rng.integers(data.size))
    match trial % 4:
        case 0:
            data[place] ^= np.uint8(1 << int(rng.integers(8)))
        case 1:
            where = rng.choice(data.size, size=max(1, data.size // 1000), replace=False)
            data[where] = np.where(data[where] > 127, 0, 255)
        case 2:
            length = 1 + data.size // 16
            start = int(rng.integers(data.size - length))
            data[start : start + length] = np.where(data[start : start + length] == 0, 1, 0)
        case _:
            data = data[:place]
    return data.tobytes()
