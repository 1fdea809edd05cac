"""Four chosen images recover everything that the toy hides; the same attack on any subject as a test of it.

The attacker may have images of his choice encrypted under the victim's key and salt, and knows the design. After the
public mixing is undone, a black image shows the key stream, and three images whose bytes count their own positions
(its low, middle and high byte) show where each byte went. No key is guessed.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cipher.analysis.pixels import Image, flat, from_flat
from cipher.analysis.toy import mix, unmix
from cipher.errors import UnsupportedImage

CHOSEN_IMAGES = 4
LARGEST = 1 << 24
"""Bytes of an image that three counting images can number."""


@dataclass(frozen=True)
class Recovered:
    """Recovered secrets: enough to decrypt and encrypt every image of this shape under the same key and salt."""

    order: NDArray[np.int64]
    """For each place after the permutation, the byte position it came from, (bytes,)."""
    stream: NDArray[np.uint8]
    """The key stream, (bytes,)."""

    @property
    def period(self) -> int:
        """The least period of the key stream's second half, where any lead-in of the map has died out."""
        return _period(self.stream[self.stream.size // 2 :])

    def decrypt(self, cipher_image: Image) -> Image:
        """Decrypt a cipher image with the recovered secrets."""
        plain = np.zeros(cipher_image.nbytes, dtype=np.uint8)
        plain[self.order] = unmix(flat(cipher_image)) ^ self.stream
        return from_flat(plain, cipher_image)

    def predict(self, image: Image) -> Image:
        """Predict this image's cipher image; right if the attack worked."""
        return from_flat(mix(flat(image)[self.order] ^ self.stream), image)


def chosen_images(like: Image) -> list[Image]:
    """The four images: black, then bytes 0, 1 and 2 of each byte's own position.

    Raises:
        UnsupportedImage: more than 2^24 bytes, for which three counting images are not enough.
    """
    if like.nbytes > LARGEST:
        raise UnsupportedImage(f"four chosen images reach {LARGEST} bytes, and this image has {like.nbytes}")
    positions = np.arange(like.nbytes)
    counting = [((positions >> (8 * i)) & 0xFF).astype(np.uint8) for i in range(CHOSEN_IMAGES - 1)]
    return [from_flat(data, like) for data in (np.zeros(like.nbytes, dtype=np.uint8), *counting)]


def recover(encrypt: Callable[[Image], Image], like: Image) -> Recovered:
    """Run the attack: encrypt the four chosen images, of the victim's shape and type, and read off the secrets.

    Against a cipher without the toy's structure the outcome is noise; positions out of range are folded into it.
    """
    black, *counting = (unmix(flat(encrypt(image))) for image in chosen_images(like))
    order = np.zeros(like.nbytes, dtype=np.int64)
    for index, answer in enumerate(counting):
        order |= (answer ^ black).astype(np.int64) << (8 * index)
    return Recovered(order % like.nbytes, black)


def matching_bytes(predicted: Image, actual: Image) -> int:
    """Number of right bytes in a prediction; by chance one in 256 is right."""
    return int(np.count_nonzero(flat(predicted) == flat(actual)))


def _period(stream: NDArray[np.uint8]) -> int:
    """The least shift under which the stream agrees with itself; its length if there is none."""
    data = stream.tobytes()
    # The first place at which the stream, or all that is left of it, is found again.
    for shift in range(1, len(data)):
        shift_found = data.find(data[: min(64, len(data) - shift)], shift)
        if shift_found < 0:
            return len(data)
        if data[shift_found:] == data[: len(data) - shift_found]:
            return shift_found
    return len(data)
