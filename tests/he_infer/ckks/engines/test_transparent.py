"""Client and server refuse transparent ciphertexts, whose message can be read without a key."""

import numpy as np
import pytest

from he_infer.ckks.engines.seal import SealEngine, context, dump, sealapi
from he_infer.ckks.parameters import Parameters
from he_infer.client.keys.secret_key import SecretKey
from he_infer.errors import NotThisFormat, UnsupportedVersion

PARAMETERS = Parameters(8192, (60, 40, 60))
SCALE = 2.0**36


@pytest.fixture(scope="module")
def secret() -> SecretKey:
    return SecretKey.generate(PARAMETERS)


@pytest.fixture(scope="module")
def transparent() -> bytes:
    """A serialized ciphertext of zeros, well formed, at the right level and scale."""
    made = sealapi.Ciphertext(context(PARAMETERS), context(PARAMETERS).first_parms_id())
    made.resize(context(PARAMETERS), context(PARAMETERS).first_parms_id(), 2)
    made.scale = SCALE
    assert made.is_transparent()
    return dump(made)


def test_server_refuses_transparent_ciphertext_before_it_computes(transparent: bytes) -> None:
    # A request's second polynomial is drawn from a seed, so the form of version 2 cannot write a transparent one.
    with pytest.raises(UnsupportedVersion, match="as SEAL serializes it"):
        SealEngine(PARAMETERS).load(transparent, SCALE)


def test_client_refuses_to_decrypt_transparent_ciphertext(secret: SecretKey, transparent: bytes) -> None:
    with pytest.raises(NotThisFormat, match="transparent"):
        secret.decrypt([transparent])


def test_product_that_would_be_transparent_is_refused(secret: SecretKey) -> None:
    """SEAL is compiled to throw here; otherwise a product with zeros would be a message in the clear."""
    engine = SealEngine(PARAMETERS)
    value = engine.load(secret.encrypt([np.ones(PARAMETERS.slots)], SCALE)[0], SCALE)
    with pytest.raises(RuntimeError, match="transparent"):
        engine.dot([value], [engine.encode(np.zeros(PARAMETERS.slots), 1, 2.0**40)])
