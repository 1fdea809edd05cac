"""The cipher key's updates (steps 4.3 and 5.3): new subkeys, hence a new network, for every stage.

HKDF-SHA256 (RFC 5869) with the image's salt, extracted once an image and expanded for each stage with its label. The
labels carry the grid's shape, and what steers the stage: the confusion's carry the features of the other half, the
stream's the altered head.
"""

from enum import StrEnum

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

from cipher.algorithm.geometry import Geometry
from cipher.errors import BadKey

KEY_SIZE = 32
SALT_SIZE = 16


class Stage(StrEnum):
    """The stages that have subkeys of their own."""

    LOWER = "confusion of the lower half"
    UPPER = "confusion of the upper half"
    HORIZONTAL = "horizontal alteration"
    VERTICAL = "vertical alteration"


def extract_key(key: bytes, salt: bytes) -> bytes:
    """The image's own key, from which those of its stages are updated.

    Args:
        key: the cipher key of the image, 32 bytes.
        salt: 16 bytes, different for every image under the same key.

    Raises:
        BadKey: a key or salt of another length.
    """
    if len(key) != KEY_SIZE or len(salt) != SALT_SIZE:
        raise BadKey(
            f"The cipher takes a key of {KEY_SIZE} bytes and a salt of {SALT_SIZE}; got {len(key)}, {len(salt)}."
        )
    return HKDF.extract(SHA256(), salt, key)


def update_key(
    image_key: bytes, stage: Stage, geometry: Geometry, *, count: int = 1, features: bytes = b""
) -> list[bytes]:
    """The 32-byte subkeys of one stage of one image.

    Args:
        image_key: from `extract_key`.
        stage: which step of Algorithm 1 they are for.
        geometry: shape of the grid.
        count: number of subkeys.
        features: further bytes that the subkeys depend on; empty for a stage without features.
    """
    info = b"he-infer image cipher 2 " + stage.value.encode() + b" " + geometry.label() + b" " + features
    return _split(HKDFExpand(algorithm=SHA256(), length=KEY_SIZE * count, info=info).derive(image_key), count)


def update_stream_keys(root: bytes, head: bytes) -> tuple[bytes, bytes]:
    """The keys of the two key streams (AES-CTR, network) of one altered head of 16 bytes."""
    aes, network = _split(HKDFExpand(algorithm=SHA256(), length=2 * KEY_SIZE, info=head).derive(root), 2)
    return aes, network


def _split(keys: bytes, count: int) -> list[bytes]:
    return [keys[KEY_SIZE * index : KEY_SIZE * (index + 1)] for index in range(count)]
