"""No operation on a transparent ciphertext, one whose message can be read without a key: on neither side."""

import numpy as np
import pytest

from he_infer.ckks.engines.seal import SealEngine, context, dump, sealapi
from he_infer.ckks.parameters import Parameters
from he_infer.client.keys.secret_key import SecretKey
from he_infer.errors import NotThisFormat

PARAMETERS = Parameters(8192, (60, 40, 60))
SCALE = 2.0**36


@pytest.fixture(scope="module")
def secret() -> SecretKey:
    return SecretKey.generate(PARAMETERS)


@pytest.fixture(scope="module")
def transparent() -> bytes:
    """Serialized, well formed, at the right level and scale, with nothing but zeros in it."""
    made = sealapi.Ciphertext(context(PARAMETERS), context(PARAMETERS).first_parms_id())
    made.resize(context(PARAMETERS), context(PARAMETERS).first_parms_id(), 2)
    made.scale = SCALE
    assert made.is_transparent()
    return dump(made)


def test_the_server_refuses_one_before_it_computes(transparent: bytes) -> None:
    with pytest.raises(NotThisFormat, match="does not have the size"):
        SealEngine(PARAMETERS).load(transparent, SCALE)


def test_the_client_refuses_to_decrypt_one(secret: SecretKey, transparent: bytes) -> None:
    with pytest.raises(NotThisFormat, match="transparent"):
        secret.decrypt([transparent])


def test_no_product_becomes_one_unnoticed(secret: SecretKey) -> None:
    """SEAL is built so that it throws; without that a product with zeros would be a message in clear."""
    engine = SealEngine(PARAMETERS)
    value = engine.load(secret.encrypt([np.ones(PARAMETERS.slots)], SCALE)[0], SCALE)
    with pytest.raises(RuntimeError, match="transparent"):
        engine.dot([value], [engine.encode(np.zeros(PARAMETERS.slots), 1, 2.0**40)])
