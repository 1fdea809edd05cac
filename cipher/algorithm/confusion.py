"""Step 4, confusion: the partitions are taken in the network's order, and each one's words and bits are scrambled.

Two rounds of a Feistel network over the halves of the grid: the lower half is scrambled under the features of the
upper one, then the upper half under the features of the scrambled lower one. So the reader, who undoes the rounds in
the opposite order, finds the features that each was made under.
"""

from cipher.algorithm.engine.protocol import Engine
from cipher.algorithm.features import Features
from cipher.algorithm.geometry import Geometry
from cipher.algorithm.key_schedule import Stage, update_key
from cipher.algorithm.network import create_network
from cipher.algorithm.partition import divide
from cipher.algorithm.tiles import Division
from cipher.algorithm.words import Words


def scramble(block: Words, vector: Words, geometry: Geometry, image_key: bytes, engine: Engine) -> None:
    """Steps 1.1 to 1.4, 3, 4 and 5.1: the scrambled words of all partitions, one after the other, as one vector.

    Args:
        block: the grid's words, (rows * columns,); not changed.
        vector: receives the scrambled words; of the same size.
        geometry: shape of the grid.
        image_key: from `cipher.algorithm.key_schedule.extract_key`.
        engine: the loops.
    """
    cut = geometry.rows // 2
    upper, lower = _halves(block, geometry)
    upper_part, lower_part = vector[: cut * geometry.columns], vector[cut * geometry.columns :]
    division = _division(lower.shape[0], Stage.LOWER, Features.extract(upper, engine), geometry, image_key, engine)
    engine.gather(lower, division, lower_part)
    # Features need rows and columns, so the scrambled half is laid out as the half was.
    features = Features.extract(lower_part.reshape(lower.shape), engine)
    engine.gather(upper, _division(cut, Stage.UPPER, features, geometry, image_key, engine), upper_part)


def unscramble(vector: Words, block: Words, geometry: Geometry, image_key: bytes, engine: Engine) -> None:
    """The inverse of `scramble`: fills `block` from `vector`."""
    cut = geometry.rows // 2
    upper, lower = _halves(block, geometry)
    upper_part, lower_part = vector[: cut * geometry.columns], vector[cut * geometry.columns :]
    features = Features.extract(lower_part.reshape(lower.shape), engine)
    engine.scatter(upper_part, _division(cut, Stage.UPPER, features, geometry, image_key, engine), upper)
    division = _division(lower.shape[0], Stage.LOWER, Features.extract(upper, engine), geometry, image_key, engine)
    engine.scatter(lower_part, division, lower)


def _halves(block: Words, geometry: Geometry) -> tuple[Words, Words]:
    grid = block.reshape(geometry.rows, geometry.columns)
    return grid[: geometry.rows // 2], grid[geometry.rows // 2 :]


def _division(
    rows: int, stage: Stage, features: Features, geometry: Geometry, image_key: bytes, engine: Engine
) -> Division:
    (subkey,) = update_key(image_key, stage, geometry, features=features.label())
    network = create_network(subkey, features.layers(), features.nodes(), engine)
    return divide(rows, geometry.columns, geometry.bits, features, network, engine)
