"""The positive control: an ideal image cipher for the suite to pass, built from AES and HMAC.

With the salt fixed, AES-CTR alone is no image cipher (one changed pixel bit changes one bit). A cipher that is ideal in
the suite's sense is a pseudorandom permutation of whole images. LIONESS (Anderson and Biham, 1996) is one, provably if
its stream cipher and keyed hash are good: a Feistel network of four rounds between a short left part and all the rest.
It exists to test the tests; the container is what protects images.
"""

import hashlib
import hmac

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from cipher.analysis.pixels import Image, flat, from_flat
from cipher.errors import UnsupportedImage

_LEFT = 32


def keystream(key: bytes, count: int) -> bytes:
    """`count` bytes of AES-256-CTR under a 32-byte key, from counter 0: the positive control of SP 800-22."""
    encryptor = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()
    return encryptor.update(bytes(count))


class WideBlock:
    """LIONESS with AES-256-CTR and HMAC-SHA256 over an image's bytes; at least 64 of them."""

    name = "ideal reference (LIONESS)"

    def encrypt(self, image: Image, key: bytes, salt: bytes) -> Image:
        """Encrypt an image.

        Raises:
            UnsupportedImage: fewer than 64 bytes.
        """
        return self._apply(image, _rounds(key, salt))

    def decrypt(self, cipher_image: Image, key: bytes, salt: bytes) -> Image:
        """Decrypt a cipher image: the same four rounds with their keys in reverse order."""
        return self._apply(cipher_image, _rounds(key, salt)[::-1])

    @staticmethod
    def _apply(image: Image, rounds: list[tuple[int, bytes]]) -> Image:
        data = flat(image)
        if data.size < 2 * _LEFT:
            raise UnsupportedImage(f"the reference cipher needs images of {2 * _LEFT} bytes or more, not {data.size}")
        left, right = data[:_LEFT].tobytes(), data[_LEFT:].tobytes()
        for index, key in rounds:
            if index % 2 == 0:
                stream_key = hmac.digest(key, left, "sha256")
                encryptor = Cipher(algorithms.AES(stream_key), modes.CTR(bytes(16))).encryptor()
                right = encryptor.update(right)
            else:
                mask = hmac.digest(key, right, "sha256")
                left = bytes(a ^ b for a, b in zip(left, mask, strict=True))
        data[:_LEFT] = bytearray(left)
        data[_LEFT:] = bytearray(right)
        return from_flat(data, image)


def _rounds(key: bytes, salt: bytes) -> list[tuple[int, bytes]]:
    """The four rounds in encrypting order: number and key."""
    return [(index, hashlib.blake2b(bytes([index]) + salt, key=key, digest_size=32).digest()) for index in range(4)]
