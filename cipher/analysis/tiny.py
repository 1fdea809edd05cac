"""Images too small for the suite's statistics: one changed bit, over many keys at one salt, judged all together."""

import numpy as np

from cipher.algorithm.geometry import LEAST_BYTES
from cipher.analysis import tallies
from cipher.analysis.line import Line, judge
from cipher.analysis.pixels import LEAST_PIXELS, Image
from cipher.analysis.subject import Subject
from cipher.analysis.suite import Seeds

GROUP = "one plaintext bit of a tiny image changed"


def tiny_lines(
    subject: Subject, shape: tuple[int, ...], word: type[np.uint8] | type[np.uint16], keys: int, seeds: Seeds
) -> tuple[Line, ...]:
    """NPCR, UACI and bits changed, over the cipher images of all keys side by side.

    Args:
        subject: the cipher.
        shape: shape of the images, which are random.
        word: their type.
        keys: number of fresh keys; more where that makes fewer than 1024 pixels in all.
        seeds: source of keys, images and the one salt.
    """
    label = f"tiny {subject.name} {shape} {np.dtype(word).name}"
    rng, size = seeds.generator(label), int(np.prod(shape))
    before, after = [], []
    for _, key in seeds.keys(label, max(keys, -(-LEAST_PIXELS // size))):
        image = rng.integers(0, np.iinfo(word).max, shape, dtype=word, endpoint=True)
        other = image.copy()
        other.reshape(-1)[rng.integers(size)] ^= word(1 << int(rng.integers(8 * image.itemsize)))
        before.append(subject.encrypt(image, key, seeds.salt).reshape(1, -1))
        after.append(subject.encrypt(other, key, seeds.salt).reshape(1, -1))
    differences = tallies.Differences(GROUP)
    differences.add(np.concatenate(before), np.concatenate(after))
    return judge(differences.lines())


class Filled:
    """A cipher whose images are filled up with zero bytes to the least that it takes, as the container does."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self.name = subject.name

    def encrypt(self, image: Image, key: bytes, salt: bytes) -> Image:
        """Encrypt; an image under 16 bytes becomes 16 bytes."""
        if image.nbytes >= LEAST_BYTES:
            return self._subject.encrypt(image, key, salt)
        filled = np.zeros(LEAST_BYTES, np.uint8)
        filled[: image.nbytes] = image.reshape(-1).view(np.uint8)
        return self._subject.encrypt(filled, key, salt)

    def decrypt(self, cipher_image: Image, key: bytes, salt: bytes) -> Image:
        """Decrypt what `encrypt` made; zero bytes that it added stay."""
        return self._subject.decrypt(cipher_image, key, salt)
