"""Lines that look for structure with chosen images and chosen cipher images: planes, constants, tiles, lines, trails.

Version 1 of the inner cipher passed every line of the suite before these were added, and is flagged by several of them;
the toy is flagged by the rest.
"""

import numpy as np

from cipher.analysis import chosen, sensitivity, tallies
from cipher.analysis.line import Line, exact
from cipher.analysis.pixels import Image, words
from cipher.analysis.subject import Subject
from cipher.analysis.version1_attacks import flip_plane, seven_images

STRUCTURE = "structure under chosen images"
TRAIL = "one line of pixels changed"
SPREAD = "one cipher bit changed, deciphered"
_SOURCE = "cryptanalysis of version 1; docs/cipher-reduction.md"
_SOLVED_KEYS = 2
"""Keys that the seven-image attack is tried on: each takes some dozen encryptions."""
_TILE = 32


class Structure:
    """Tallies, over keys, of every statistic in this module."""

    def __init__(self, subject: Subject, image: Image, salt: bytes, rng: np.random.Generator) -> None:
        self._subject, self._image, self._salt, self._rng = subject, image, salt, rng
        top = 8 * words(image).dtype.itemsize - 1
        self._planes = {f"bit plane {bit}": bit for bit in sorted({0, top // 2, top})}
        self._constants = {"half of the range": 1 << top, "one": 1}
        self._second = {"tiles": _tiles(image, rng), "rows": _lines(image, rng, 0), "columns": _lines(image, rng, 1)}
        names = [
            *(f"{name} flipped: bytes that follow" for name in self._planes),
            *(f"{name} added: bytes that follow" for name in self._constants),
            *(f"xor residual with equal {name}: zero bytes" for name in self._second),
        ]
        self._matches = {name: tallies.Matches(STRUCTURE, name, _SOURCE) for name in names}
        self._trail = tallies.Differences(TRAIL)
        self._spread = tallies.Differences(SPREAD)
        self._solved: list[bool] = []

    def add(self, key: bytes) -> None:
        """Measure one key."""
        image, salt = self._image, self._salt

        def encrypt(plain: Image) -> Image:
            return self._subject.encrypt(plain, key, salt)

        of_image, zero = encrypt(image), chosen.black(image)
        for name, bit in self._planes.items():
            found = encrypt(flip_plane(image, bit))
            self._matches[f"{name} flipped: bytes that follow"].add(found, flip_plane(of_image, bit))
        for name, value in self._constants.items():
            constant = _fill(image, value)
            found = encrypt(chosen.add(image, constant))
            self._matches[f"{name} added: bytes that follow"].add(found, chosen.add(of_image, constant))
        for name, second in self._second.items():
            residual = chosen.xor_residual(encrypt, image, second)
            self._matches[f"xor residual with equal {name}: zero bytes"].add(residual, zero)
        self._trail.add(of_image, encrypt(self._with_line_changed(image)))
        self._spread.add(*self._deciphered(of_image, key))
        if len(self._solved) < _SOLVED_KEYS:
            self._solved.append(seven_images(encrypt, _corner(image), self._rng, pixels=4).solved)

    def lines(self) -> list[Line]:
        """Lines of the table, one for each tally."""
        found = [line for tally in self._matches.values() for line in tally.lines()]
        solved = exact(
            STRUCTURE,
            "keys of which seven images give a sweep's constants",
            sum(self._solved),
            not any(self._solved),
            criterion="none",
            source=_SOURCE,
            keys=len(self._solved),
        )
        return [*found, solved, *self._trail.lines(), *self._spread.lines()]

    def _with_line_changed(self, image: Image) -> Image:
        """The image with one row changed by the same difference everywhere."""
        changed = np.ascontiguousarray(image).copy()
        rows = words(changed).reshape(-1, changed.shape[-1])
        row = int(self._rng.integers(len(rows)))
        rows[row] ^= rows.dtype.type(self._rng.integers(1, np.iinfo(rows.dtype).max, endpoint=True))
        return changed

    def _deciphered(self, cipher_image: Image, key: bytes) -> tuple[Image, Image]:
        place = int(self._rng.integers(cipher_image.size))
        bit = int(self._rng.integers(8 * cipher_image.dtype.itemsize))
        # A random cipher image: with a real one, the plain image would show where nothing has changed.
        random = np.ascontiguousarray(cipher_image).copy()
        view = words(random)
        view ^= self._rng.integers(0, np.iinfo(view.dtype).max, view.shape, view.dtype, endpoint=True)
        other = sensitivity.flip_pixel_bit(random, place, bit)
        return (
            self._subject.decrypt(random, key, self._salt),
            self._subject.decrypt(other, key, self._salt),
        )


def _corner(image: Image) -> Image:
    """16 x 16 pixels of the image's type: the attack's cost grows with the columns."""
    return np.ascontiguousarray(image).reshape(-1)[:256].reshape(16, 16)


def _fill(like: Image, value: int) -> Image:
    filled = np.zeros_like(like, order="C")
    words(filled)[...] = value
    return filled


def _tiles(like: Image, rng: np.random.Generator) -> Image:
    """An image of one random tile, repeated."""
    shape = like.shape if like.ndim > 1 else (1, *like.shape)
    rows, columns = np.indices(shape)[-2:]
    tile = rng.integers(0, np.iinfo(words(like).dtype).max, (_TILE, _TILE), words(like).dtype, endpoint=True)
    return _typed(tile[rows % _TILE, columns % _TILE], like)


def _lines(like: Image, rng: np.random.Generator, axis: int) -> Image:
    """An image with one random value for each row or column."""
    shape = like.shape if like.ndim > 1 else (1, *like.shape)
    place = np.indices(shape)[-2 + axis]
    values = rng.integers(0, np.iinfo(words(like).dtype).max, int(place.max()) + 1, words(like).dtype, endpoint=True)
    return _typed(values[place], like)


def _typed(unsigned: Image, like: Image) -> Image:
    return np.ascontiguousarray(unsigned).view(like.dtype).reshape(like.shape)
