"""Linear filters of an encrypted image by rotations and products with plain weights; rows run through the slots.

A tile of `side` x `side` pixels lies row by row in the slots. Output pixel (r, c) is the sum over kernel offsets (y, x)
of w(y, x) times pixel (r + y, c + x), which stands y * side + x slots further. Baby-step giant-step as in Halevi and
Shoup (CRYPTO 2014): the tile is rotated by every x once, the products of one y are summed, and each sum is rotated by
y * side, so a k x k kernel takes 2 (k - 1) rotations instead of k^2 - 1. Weights of neighbours outside of the image
are left out and the rest renormalised, which costs nothing, since every slot has weights of its own.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from he_infer.ckks.engines.protocol import EvaluationKeys, Value
from he_infer.ckks.engines.seal import SealEngine, context, dump, sealapi
from he_infer.ckks.layouts.ring import galois_element
from he_infer.ckks.parameters import Parameters
from he_infer.client.keys.secret_key import SecretKey

PARAMETERS = Parameters(8192, (60, 40, 60))
"""Ring and chain for one rescale; 160 of 214 bits."""
SIDE = 64
"""A tile of 64 x 64 pixels fills the 4096 slots."""
SCALE = 2.0**40

Kernel = NDArray[np.float64]
Image = NDArray[np.float64]


def make_gaussian_kernel(size: int) -> Kernel:
    """A binomial kernel (size, size), size 3 or 5: the usual integer form of a Gaussian."""
    row = np.array({3: [1, 2, 1], 5: [1, 4, 6, 4, 1]}[size], dtype=np.float64)
    kernel = np.outer(row, row)
    return np.asarray(kernel / kernel.sum())


def make_mean_kernel(size: int) -> Kernel:
    """The kernel (size, size) of the plain mean."""
    return np.full((size, size), 1.0 / size**2)


def filter_in_clear(image: Image, kernel: Kernel) -> Image:
    """The filter in clear on an image (H, W), without weights outside of it: the reference for the encrypted filter."""
    from scipy.ndimage import correlate

    over = correlate(image, kernel, mode="constant")
    return np.asarray(over / correlate(np.ones_like(image), kernel, mode="constant"))


def list_offsets(kernel: Kernel) -> range:
    """The offsets along one side of a square kernel of odd size."""
    half = kernel.shape[0] // 2
    return range(-half, half + 1)


def list_rotations(kernel: Kernel) -> list[int]:
    """The rotations that a filter makes, without the rotation by zero."""
    return [step for unit in (1, SIDE) for offset in list_offsets(kernel) if (step := offset * unit)]


@dataclass(frozen=True)
class Tile:
    """Place and size of a tile in the image."""

    top: int
    left: int
    height: int
    width: int


def cut_tiles(height: int, width: int, margin: int) -> Iterator[Tile]:
    """Tiles that cover an image, at most SIDE pixels to a side and overlapping by twice the kernel's reach."""
    step = SIDE - 2 * margin
    for top in range(0, max(height - 2 * margin, 1), step):
        for left in range(0, max(width - 2 * margin, 1), step):
            yield Tile(top, left, min(SIDE, height - top), min(SIDE, width - left))


class FilterClient:
    """The side with the secret key: encrypts tiles, opens answers, makes exactly the Galois keys of a kernel."""

    def __init__(self) -> None:
        self._generator = sealapi.KeyGenerator(context(PARAMETERS))
        self._secret = SecretKey(PARAMETERS, self._generator.secret_key())

    def galois_keys(self, kernel: Kernel) -> dict[str, bytes]:
        """Seeded Galois keys for a kernel's rotations and no other."""
        return {"galois": dump(self._generator.create_galois_keys(list(list_galois_elements(kernel))))}

    def encrypt(self, tile: Image) -> bytes:
        """A tile (h, w) of at most SIDE x SIDE pixels as one ciphertext; the rest of the slots are 0."""
        slots = np.zeros((SIDE, SIDE))
        slots[: tile.shape[0], : tile.shape[1]] = tile
        return self._secret.encrypt([slots.ravel()], SCALE)[0]

    def decrypt(self, answer: bytes) -> Image:
        """The SIDE x SIDE pixels of an answer."""
        return np.asarray(self._secret.decrypt([answer])[0].real.reshape(SIDE, SIDE))


class FilterServer:
    """The side without the secret key: filters ciphertexts with Galois keys alone."""

    def __init__(self, kernel: Kernel, keys: dict[str, bytes]) -> None:
        self._engine = SealEngine(PARAMETERS)
        self._kernel = kernel
        self._keys: EvaluationKeys = self._engine.load_keys(keys, list_galois_elements(kernel), False)

    def filter(self, sealed: bytes, tile: Tile, shape: tuple[int, int]) -> bytes:
        """Filter an encrypted tile of an image of `shape`; level 1 in, level 0 out."""
        engine, level = self._engine, PARAMETERS.levels
        value = engine.load(sealed, SCALE)
        held = {x: engine.rotate(value, x, self._keys) if x else value for x in list_offsets(self._kernel)}
        total: Value | None = None
        for y in list_offsets(self._kernel):
            partial: Value | None = None
            for x, moved in held.items():
                # Weights in the order of the sum's slots, rotated back by the rotation that the sum will get.
                weights = np.roll(self._weights(y, x, tile, shape), y * SIDE)
                product = engine.multiply_plain(moved, engine.encode(weights, level, float(engine.primes[level])))
                partial = product if partial is None else engine.add(partial, product)
            if partial is None:
                continue
            partial = engine.rotate(partial, y * SIDE, self._keys) if y else partial
            total = partial if total is None else engine.add(total, partial)
        if total is None:
            raise ValueError("a kernel has at least one weight")
        return engine.dump(engine.rescale(total))

    def _weights(self, y: int, x: int, tile: Tile, shape: tuple[int, int]) -> NDArray[np.float64]:
        """(slots,) the weight of the neighbour (y, x) of each pixel, 0 where there is none in the tile."""
        half = self._kernel.shape[0] // 2
        there, weight = np.zeros((SIDE, SIDE)), np.zeros((SIDE, SIDE))
        for dy in list_offsets(self._kernel):
            for dx in list_offsets(self._kernel):
                inside = self._inside(dy, dx, tile, shape)
                there += inside * self._kernel[dy + half, dx + half]
                if (dy, dx) == (y, x):
                    weight = inside * self._kernel[dy + half, dx + half]
        return np.where(there > 0, weight / np.where(there > 0, there, 1), 0.0).ravel()

    @staticmethod
    def _inside(y: int, x: int, tile: Tile, shape: tuple[int, int]) -> NDArray[np.bool_]:
        """(SIDE, SIDE) whether pixel and neighbour lie both in the tile and the image."""
        rows, columns = np.mgrid[0:SIDE, 0:SIDE]
        own = (rows < tile.height) & (columns < tile.width)
        near = (rows + y >= 0) & (rows + y < tile.height) & (columns + x >= 0) & (columns + x < tile.width)
        return np.asarray(own & near & (tile.top + rows < shape[0]) & (tile.left + columns < shape[1]))


def list_galois_elements(kernel: Kernel) -> tuple[int, ...]:
    """The Galois elements of a kernel's rotations."""
    return tuple(galois_element(step, PARAMETERS.ring_size) for step in list_rotations(kernel))


def filter_encrypted(
    image: Image, client: FilterClient, server: FilterServer, kernel: Kernel, done: Callable[[int], None]
) -> Image:
    """An image (H, W) filtered tile by tile, encrypted on its way there and back."""
    out = np.zeros_like(image)
    margin = kernel.shape[0] // 2
    for number, tile in enumerate(cut_tiles(*_shape(image), margin)):
        rows, columns = slice(tile.top, tile.top + tile.height), slice(tile.left, tile.left + tile.width)
        answer = client.decrypt(server.filter(client.encrypt(image[rows, columns]), tile, _shape(image)))
        # The margin is left to the next tile, which has all its neighbours; at the image's edge there is no next tile.
        top, left = (margin if at else 0 for at in (tile.top, tile.left))
        below = margin if tile.top + tile.height < image.shape[0] else 0
        right = margin if tile.left + tile.width < image.shape[1] else 0
        kept = np.s_[top : tile.height - below, left : tile.width - right]
        out[rows, columns][kept] = answer[: tile.height, : tile.width][kept]
        done(number + 1)
    return out


def _shape(image: Image) -> tuple[int, int]:
    return int(image.shape[0]), int(image.shape[1])
