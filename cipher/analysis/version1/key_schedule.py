"""The cipher key's updates (steps 4.3 and 5.3): a new subkey, hence a new network, for every stage.

HKDF-SHA256 (RFC 5869) with the image's salt and a label for the stage; the labels also carry the grid's shape.
"""

from enum import StrEnum

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from cipher.analysis.version1.geometry import Geometry
from cipher.errors import BadKey

KEY_SIZE = 32
SALT_SIZE = 16


class Stage(StrEnum):
    """The stages that have a network of their own."""

    CONFUSION = "confusion"
    HORIZONTAL = "horizontal"
    VERTICAL = "vertical"
    REMAINDER = "remainder"


def update_key(key: bytes, salt: bytes, stage: Stage, geometry: Geometry) -> bytes:
    """The 32-byte subkey of one stage of one image.

    Args:
        key: the cipher key of the image, 32 bytes.
        salt: 16 bytes, different for every image under the same key.
        stage: which step of Algorithm 1 it is for.
        geometry: shape of the grid.

    Raises:
        BadKey: a key or salt of another length.
    """
    if len(key) != KEY_SIZE or len(salt) != SALT_SIZE:
        raise BadKey(
            f"The cipher takes a key of {KEY_SIZE} bytes and a salt of {SALT_SIZE}; got {len(key)}, {len(salt)}."
        )
    info = b"he-infer image cipher 1 " + stage.value.encode() + b" " + geometry.label()
    return HKDF(algorithm=SHA256(), length=KEY_SIZE, salt=salt, info=info).derive(key)
