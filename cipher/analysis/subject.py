"""Subject of the suite: anything that turns an image into one of the same shape and type under a key and a salt."""

from typing import Protocol

from cipher.algorithm import inner
from cipher.analysis.pixels import Image
from cipher.analysis.version1 import inner as version1

KEY_BYTES = 32
SALT_BYTES = 16


class Subject(Protocol):
    """An image cipher under test."""

    @property
    def name(self) -> str:
        """Name in the report."""
        ...

    def encrypt(self, image: Image, key: bytes, salt: bytes) -> Image:
        """The cipher image: same shape and type; the key has 32 bytes and the salt 16."""
        ...

    def decrypt(self, cipher_image: Image, key: bytes, salt: bytes) -> Image:
        """The image back, from the cipher image alone."""
        ...


class Inner:
    """The project's inner cipher, as the container calls it (`cipher.algorithm.inner`)."""

    name = "inner cipher"

    def encrypt(self, image: Image, key: bytes, salt: bytes) -> Image:
        """Encrypt with `cipher.algorithm.inner.encrypt_image`."""
        return inner.encrypt_image(image, key, salt)

    def decrypt(self, cipher_image: Image, key: bytes, salt: bytes) -> Image:
        """Decrypt with `cipher.algorithm.inner.decrypt_image`."""
        return inner.decrypt_image(cipher_image, key, salt)


class Version1:
    """The first version of the inner cipher, which was broken: a negative control."""

    name = "version 1 (negative control)"

    def encrypt(self, image: Image, key: bytes, salt: bytes) -> Image:
        """Encrypt as releases before version 2 did."""
        return version1.encrypt_image(image, key, salt)

    def decrypt(self, cipher_image: Image, key: bytes, salt: bytes) -> Image:
        """Decrypt what `encrypt` made."""
        return version1.decrypt_image(cipher_image, key, salt)
