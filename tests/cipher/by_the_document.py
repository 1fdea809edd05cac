"""Algorithm 1 and the sealed object, from the documentation alone: plain integers, nothing of the package.

docs/cipher.md and docs/format-container.md specify all of it. Slow: for small images.
"""

import hashlib
import hmac
import json
import math
import struct
from collections.abc import Iterator
from itertools import pairwise

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand
from cryptography.hazmat.primitives.keywrap import aes_key_unwrap

MASK = 2**64 - 1
Grid = list[list[int]]


def derive(secret: bytes, length: int, salt: bytes | None, info: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=length, salt=salt, info=info).derive(secret)


# --- the network


def activate(x: int) -> int:
    x = x * (2 * x + 1) & MASK
    x = (x << 29 | x >> 35) & MASK
    return 2 * x if x < 2**63 else 2 * (2**64 - 1 - x) + 1


class Network:
    """Weights and stream of one network."""

    def __init__(self, key: bytes, layers: int, nodes: int) -> None:
        self.nodes = nodes
        encryptor = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()
        while True:
            self.seeds = list(struct.unpack(f"<{nodes}Q", encryptor.update(bytes(8 * nodes))))
            self.layers: list[list[list[int]]] = []
            while len(self.layers) < layers:
                for _ in range(4 * layers):
                    words = struct.unpack(f"<{nodes * (nodes + 1)}Q", encryptor.update(bytes(8 * nodes * (nodes + 1))))
                    rows = [list(words[i * (nodes + 1) : (i + 1) * (nodes + 1)]) for i in range(nodes)]
                    if effective([row[:nodes] for row in rows]) and len(self.layers) < layers:
                        self.layers.append(rows)
            if self.has_influence():
                return

    def run(self, layers: list[list[list[int]]], state: list[int]) -> list[int]:
        for layer in layers:
            sums = (sum(w * x for w, x in zip(row, state, strict=False)) + row[-1] for row in layer)
            state = [activate(total & MASK) for total in sums]
        return state

    def has_influence(self) -> bool:
        for depth in range(len(self.layers)):
            for node in range(self.nodes):
                for what in range(self.nodes + 2):
                    changed = 0
                    for probe in range(2):
                        entry = [(self.seeds[0] + probe) & MASK, *self.seeds[1:]]
                        before = self.run(self.layers[:depth], entry)
                        after = self.run(self.layers[depth : depth + 1], before)
                        row = list(self.layers[depth][node])
                        if what <= self.nodes:
                            row[what] ^= 1
                            (value,) = self.run([[row]], before)
                        else:
                            value = 0
                        other = [*after[:node], value, *after[node + 1 :]]
                        ends = self.run(self.layers[depth + 1 :], after), self.run(self.layers[depth + 1 :], other)
                        changed += sum((a ^ b).bit_count() for a, b in zip(*ends, strict=True))
                    last = depth == len(self.layers) - 1
                    reached = 128 * (1 if last else self.nodes)
                    if 4 * changed < reached and not (last and what == self.nodes + 1):
                        return False
        return True

    def stream(self) -> Iterator[int]:
        """The bytes of the key stream."""
        sheet = 0
        while True:
            outputs = []
            for place in range(256):
                entry = [(self.seeds[0] + 256 * sheet + place) & MASK, *self.seeds[1:]]
                outputs.append([(x + e) & MASK for x, e in zip(self.run(self.layers, entry), entry, strict=True)])
            for node in range(self.nodes):
                for output in outputs:
                    yield from output[node].to_bytes(8, "little")
            sheet += 1


def effective(rows: list[list[int]]) -> bool:
    weights = [weight for row in rows for weight in row]
    if any((a ^ b).bit_count() < 12 for i, a in enumerate(weights) for b in weights[:i]):
        return False
    bits = [sum((weight & 1) << place for place, weight in enumerate(row)) for row in rows]
    sums = {0}
    for row in bits:
        sums |= {row ^ other for other in sums}
    return len(sums) == 1 << len(bits)


# --- features and confusion


class Features:
    """Features of half of the grid."""

    def __init__(self, half: Grid) -> None:
        down, along = -(-len(half) // 64), -(-len(half[0]) // 64)
        copy = [row[::along] for row in half[::down]]
        low = min(map(min, copy))
        span = max(1, max(map(max, copy)) - low)
        copy = [[(value - low) * 255 // span for value in row] for row in copy]
        rows, columns = len(copy), len(copy[0])
        numbers = []
        for i in range(4):
            for j in range(4):
                block = [
                    row[j * columns // 4 : (j + 1) * columns // 4] for row in copy[i * rows // 4 : (i + 1) * rows // 4]
                ]
                numbers.append(measure([row for row in block if row]))
        self.columns = list(zip(*numbers, strict=True))
        _, variance, gradient, levels = (sum(column) // 16 for column in self.columns)
        self.layers = 7 - min(3, levels.bit_length() // 2)
        self.nodes = 6 - min(2, gradient.bit_length() // 2)
        self.height = 64 - 8 * min(4, variance.bit_length() // 3)
        self.row_bytes = 2 * (160 - 16 * min(4, gradient.bit_length() // 2))

    def label(self) -> bytes:
        return b"".join(struct.pack("<16H", *column) for column in self.columns)


def measure(block: Grid) -> tuple[int, int, int, int]:
    values = [value for row in block for value in row]
    n = len(values)
    if not n:
        return 0, 0, 0, 0
    steps = sum(abs(a - b) for row in block for a, b in pairwise(row))
    steps += sum(abs(a - b) for one, two in pairwise(block) for a, b in zip(one, two, strict=True))
    total = sum(values)
    counts = sum(values.count(value) ** 2 for value in set(values))
    return total // n, (n * sum(v * v for v in values) - total * total) // (n * n), steps // n, n * n // counts


def vector_of(half: Grid, bits: int, features: Features, key: bytes) -> list[tuple[int, int, int]]:
    """For each word of the half's part of the vector: the row and column it comes from, and how its bits are turned."""
    stream = Network(key, features.layers, features.nodes).stream()

    def draw(size: int, count: int) -> list[int]:
        return [int.from_bytes(bytes(next(stream) for _ in range(size)), "little") for _ in range(count)]

    rows, columns = len(half), len(half[0])
    height, width = features.height, features.row_bytes * 8 // bits
    first_row, first_column = draw(8, 2)
    manners = draw(8, 16)
    cuts = [0, *range(first_row % height or height, rows, height), rows]
    left = min(first_column % width, columns)
    across = (columns - left) // width
    right = columns - left - across * width
    result = []
    for begin, count, wide in ((left, across, width), (0, 1, left), (columns - right, 1, right)):
        if not count or not wide:
            continue
        tiles = [(band, tile) for band in range(len(cuts) - 1) for tile in range(count)]
        order = list(range(len(tiles)))
        numbers = draw(4, len(tiles))
        for i in range(len(tiles) - 1, 0, -1):
            other = numbers[i] * (i + 1) >> 32
            order[i], order[other] = order[other], order[i]
        draws = [draw(4, count) for _ in range(rows)]
        for number in order:
            band, tile = tiles[number]
            top, size = cuts[band], cuts[band + 1] - cuts[band]
            places = list(range(size))
            for i in range(size - 1, 0, -1):
                other = (draws[top + i][tile] & 0xFFFF) * (i + 1) >> 16
                places[i], places[other] = places[other], places[i]
            for place in range(size):
                row = top + places.index(place)
                manner = manners[draws[row][tile] >> 28]
                turn, bit = (manner >> 32) * wide >> 32, manner & bits - 1
                result += [(row, begin + tile * wide + (j + turn) % wide, bit) for j in range(wide)]
    return result


def confusion(words: list[int], rows: int, columns: int, bits: int, key: bytes, salt: bytes, label: bytes) -> list[int]:
    grid = [words[r * columns : (r + 1) * columns] for r in range(rows)]
    upper, lower = grid[: rows // 2], grid[rows // 2 :]

    def scrambled(half: Grid, other: Grid, stage: bytes) -> list[int]:
        features = Features(other)
        info = b"he-infer image cipher 2 " + stage + b" " + label + b" " + features.label()
        taken = vector_of(half, bits, features, derive(key, 32, salt, info))
        top = (1 << bits) - 1
        return [(half[r][c] << bit | half[r][c] >> bits - bit) & top for r, c, bit in taken]

    part = scrambled(lower, upper, b"confusion of the lower half")
    laid = [part[r * columns : (r + 1) * columns] for r in range(len(lower))]
    return scrambled(upper, laid, b"confusion of the upper half") + part + words[rows * columns :]


# --- diffusion


def xor(a: bytes, b: bytes) -> bytes:
    return bytes(x ^ y for x, y in zip(a, b, strict=True))


def encipher(words: list[int], bits: int, rows: int, columns: int, key: bytes, salt: bytes) -> bytes:
    """The cipher image of words that lie in a grid; words beyond the grid are the remainder."""
    label = f"{rows}x{columns}+{len(words) - rows * columns}w{bits}".encode()
    vector = confusion(words, rows, columns, bits, key, salt, label)
    data = b"".join(word.to_bytes(bits // 8, "little") for word in vector)
    horizontal = derive(key, 64, salt, b"he-infer image cipher 2 horizontal alteration " + label + b" ")
    vertical = derive(key, 64, salt, b"he-infer image cipher 2 vertical alteration " + label + b" ")
    head, body = data[:16], data[16:]
    mixed = xor(head, AESGCM(horizontal[:32]).encrypt(bytes(12), b"", body))
    head = Cipher(algorithms.AES(horizontal[32:]), modes.ECB()).encryptor().update(mixed)
    keys = HKDFExpand(algorithm=SHA256(), length=64, info=head).derive(vertical[:32])
    body = Cipher(algorithms.AES(keys[:32]), modes.CTR(bytes(16))).encryptor().update(body)
    stream = Network(keys[32:], 4 + head[0] % 2, 4 + 2 * (head[1] % 2)).stream()
    body = bytes(byte ^ next(stream) for byte in body)
    return xor(head, AESGCM(vertical[32:]).encrypt(bytes(12), b"", body)) + body


def fold(shape: tuple[int, ...], itemsize: int) -> tuple[int, int, int]:
    """Rows and columns of an image's grid, and the bits of a word."""
    frames, height, width, samples = {
        1: lambda: (1, 1, shape[0], 1),
        2: lambda: (1, *shape, 1),
        3: lambda: (1, *shape) if shape[2] <= 4 else (*shape, 1),
        4: lambda: shape,
    }[len(shape)]()
    rows, columns = frames * height, width * samples * max(1, itemsize // 2)
    if min(rows, columns) < 32:
        total = rows * columns
        columns = math.isqrt(total)
        rows = total // columns
    return rows, columns, 8 if itemsize == 1 else 16


# --- the sealed object


def cut(pixels: int, size: int, shape: tuple[int, ...], limit: int, frames: int) -> list[tuple[int, ...]]:
    """The shapes of a segment's chunks."""
    if pixels and frames:
        return [(min(frames, shape[0] - first), *shape[1:]) for first in range(0, shape[0], frames)]
    if math.prod(shape) * size <= limit:
        return [shape] if math.prod(shape) else []
    axis = next(axis for axis in range(1, len(shape) + 1) if math.prod(shape[axis:]) * size <= limit)
    entries, rest = math.prod(shape[:axis]), shape[axis:]
    step = limit // (math.prod(rest) * size)
    return [(min(step, entries - first), *rest) for first in range(0, entries, step)]


class SealedObject:
    """A sealed object, taken apart; `records` holds the enciphered chunks with their types and shapes."""

    def __init__(self, sealed: bytes, vault_secret: bytes) -> None:
        magic, version, kind, h, self.recipients, zero = struct.unpack_from("<4sHHIHH", sealed)
        assert (magic, version, zero) == (b"HEIV", 2, 0)
        begin = 144 + 128 * self.recipients
        header, commitment = sealed[begin : begin + h], sealed[begin + h : begin + h + 32]
        self.salt = header[24:40]
        payload, limit, p, self.frames, labels_length, count, cipher, zero = struct.unpack_from("<QQIIHHHH", header, 72)
        assert (cipher, zero) == (2, 0)
        at, segments = 104, []
        for _ in range(count):
            pixels, kind_of, size, dimensions = struct.unpack_from("<B2sBB", header, at)
            segments.append((pixels, kind_of.decode(), size, struct.unpack_from(f"<{dimensions}Q", header, at + 5)))
            at += 5 + 8 * dimensions
        assert at + labels_length == h
        assert [pixels for pixels, *_ in segments] == {1: [1], 2: [0], 3: [0, 1, 0], 4: [0, 1, 0]}[kind]
        self.kind = kind
        assert payload == sum(math.prod(shape) * size for _, _, size, shape in segments)
        self.labels = json.loads(header[at:])

        full = [slot for slot in (sealed[16:80], sealed[80:144]) if slot != bytes(64)]
        assert all(hashlib.sha256(slot[:56]).digest()[:8] == slot[56:] for slot in full)
        key_id = derive(vault_secret, 16, None, b"he-infer vault 1 key id")
        (slot,) = [slot for slot in full if slot[:16] == key_id]
        data_key = aes_key_unwrap(derive(vault_secret, 32, None, b"he-infer vault 1 wrap"), slot[16:56])
        keys = derive(data_key, 128, self.salt, b"he-infer object 2 keys")
        sealing, self.inner, self.sharing = AESGCM(keys[:32]), keys[32:64], keys[96:]
        assert hmac.digest(keys[64:96], sealed[:16] + header, "sha256") == commitment
        for number in range(self.recipients):
            slot = sealed[144 + 128 * number : 272 + 128 * number]
            if any(slot):
                tag = hmac.digest(self.sharing, number.to_bytes(2, "little") + slot[:96], "sha256")[:16]
                assert (slot[96:112], slot[112:120]) == (tag, bytes(8))
                assert slot[120:] == hashlib.sha256(slot[:120]).digest()[:8]

        shapes = [(kind_of + str(size), size, shape) for pixels, kind_of, size, whole in segments
                  for shape in cut(pixels, size, whole, limit, self.frames)]  # fmt: skip
        position, opened = begin + h + 32, []
        for number, length in enumerate([p, *(max(16, math.prod(shape) * size) for _, size, shape in shapes)]):
            place, last = number.to_bytes(8, "little"), bytes([number == len(shapes)])
            body = sealed[position : position + length + 16]
            position += length + 16
            opened.append(sealing.decrypt(place + bytes(3) + last, body, commitment + place + last))
        assert position == len(sealed)
        self.names = json.loads(opened[0].rstrip(b"\0"))
        self.records = [(data, *shape) for data, shape in zip(opened[1:], shapes, strict=True)]

    def chunk_salt(self, number: int) -> bytes:
        return hashlib.sha256(b"he-infer chunk 2" + self.salt + number.to_bytes(8, "little")).digest()[:16]


def take_region_apart(data: bytes) -> tuple[dict[int, bytes], bytes, bytes]:
    """An image with a sealed region: values of its elements by tag, its visible pixels, its container."""
    assert data[128:132] == b"DICM"
    values, at = dict[int, bytes](), 132
    while at < len(data):
        group, element, vr, short = struct.unpack_from("<HH2sH", data, at)
        at += 8
        if vr in (b"OB", b"OW", b"UN", b"SQ", b"UT"):
            (short,) = struct.unpack_from("<I", data, at)
            at += 4
        values[group << 16 | element] = data[at : at + short]
        at += short
    assert at == len(data)
    assert values[0x7FE10010] == b"HE_INFER REGION 1 "
    sealed = values[0x7FE11000]
    assert sealed[-1] in (1, 2)
    return values, values[0x7FE00010], sealed[: -sealed[-1]]
