"""Step 5, diffusion: every word is altered by all others. A wide block: hash, block cipher, stream, hash.

The vector of step 5.1 is a head of 16 bytes and a body, which is all the rest.

    horizontally    M = head xor H1(body),  U = AES(M)            every word of the body alters the head
    vertically      body' = body xor AES-CTR xor network           the head alters every word of the body
    horizontally    head' = U xor H2(body')                        and the body alters the head once more

The keys of both streams are updated (step 5.3) from the head U, so that another image has other streams. H1 and H2 are
GMAC under subkeys of their own, at a fixed nonce: GHASH, which is almost-xor-universal, plus a constant. This is the
construction of Adiantum (Crowley and Biggers, 2018) and HCTR2; docs/cipher-reduction.md has its proof.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from cipher.algorithm.engine.protocol import Engine
from cipher.algorithm.features import LEAST_LAYERS, LEAST_NODES
from cipher.algorithm.geometry import LEAST_BYTES, Geometry
from cipher.algorithm.gmac import hash_whole
from cipher.algorithm.key_schedule import Stage, update_key, update_stream_keys
from cipher.algorithm.network import create_network
from cipher.algorithm.weights import Network

HEAD = LEAST_BYTES
_SHEETS_AT_ONCE = 32
"""Sheets of the network's stream, 8 or 12 KiB each, that are added at a time: they stay in the processor's cache."""


@dataclass(frozen=True, slots=True)
class DiffusionKeys:
    """Subkeys of the diffusion of one image; independent of each other."""

    first_hash: bytes
    block: bytes
    streams: bytes
    """Root of the keys of both streams."""
    last_hash: bytes

    @classmethod
    def derive(cls, image_key: bytes, geometry: Geometry) -> "DiffusionKeys":
        """Update the key for both directions."""
        first_hash, block = update_key(image_key, Stage.HORIZONTAL, geometry, count=2)
        streams, last_hash = update_key(image_key, Stage.VERTICAL, geometry, count=2)
        return cls(first_hash, block, streams, last_hash)


def alter(data: memoryview, keys: DiffusionKeys, engine: Engine) -> None:
    """Step 5.2, in place.

    Args:
        data: the vector's bytes, little-endian words, at least 16.
        keys: the image's subkeys.
        engine: the loops.
    """
    for _ in alter_by_steps(data, keys, engine):
        pass


def alter_by_steps(data: memoryview, keys: DiffusionKeys, engine: Engine) -> Iterator[str]:
    """As `alter`, stopping after each direction to give its name."""
    head, body = data[:HEAD], data[HEAD:]
    mixed = _xor(head, hash_whole(keys.first_hash, body))
    head[:] = Cipher(algorithms.AES(keys.block), modes.ECB()).encryptor().update(mixed)  # noqa: S305 - one block
    yield "horizontally"
    add_streams(body, keys.streams, bytes(head), engine)
    yield "vertically"
    head[:] = _xor(head, hash_whole(keys.last_hash, body))
    yield "horizontally again"


def restore(data: memoryview, keys: DiffusionKeys, engine: Engine) -> None:
    """The inverse of `alter`."""
    head, body = data[:HEAD], data[HEAD:]
    changed = _xor(head, hash_whole(keys.last_hash, body))
    add_streams(body, keys.streams, changed, engine)
    mixed = Cipher(algorithms.AES(keys.block), modes.ECB()).decryptor().update(changed)  # noqa: S305 - one block
    head[:] = _xor(mixed, hash_whole(keys.first_hash, body))


def add_streams(body: memoryview, root: bytes, head: bytes, engine: Engine) -> None:
    """Add both key streams to the body, in place: AES-256-CTR, and the network's."""
    if not len(body):
        return
    aes_key, network_key = update_stream_keys(root, head)
    aes = Cipher(algorithms.AES(aes_key), modes.CTR(bytes(16))).encryptor()
    layers, nodes = LEAST_LAYERS + head[0] % 2, LEAST_NODES + 2 * (head[1] % 2)
    network = create_network(network_key, layers, nodes, engine)
    for first_sheet in range(0, -(-len(body) // network.sheet_bytes), _SHEETS_AT_ONCE):
        begin = first_sheet * network.sheet_bytes
        piece = body[begin : begin + _SHEETS_AT_ONCE * network.sheet_bytes]
        aes.update_into(piece, piece)
        _add_network(piece, network, first_sheet, engine)


def _add_network(piece: memoryview, network: Network, first_sheet: int, engine: Engine) -> None:
    whole = len(piece) // 8 * 8 if sys.byteorder == "little" else 0
    engine.add_stream(network, first_sheet, np.frombuffer(piece[:whole], np.uint64))
    if whole < len(piece):
        last_sheet = whole // network.sheet_bytes
        behind = len(piece) - last_sheet * network.sheet_bytes
        rest = np.zeros(-(-behind // 8), np.uint64)
        engine.add_stream(network, first_sheet + last_sheet, rest)
        stream = rest.astype("<u8", copy=False).tobytes()[whole - last_sheet * network.sheet_bytes : behind]
        piece[whole:] = _xor(piece[whole:], stream)


def _xor(first: bytes | memoryview, second: bytes) -> bytes:
    return (int.from_bytes(first, "little") ^ int.from_bytes(second, "little")).to_bytes(len(second), "little")
