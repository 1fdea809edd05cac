"""The frozen bytes: a change of one makes stored images unreadable."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cipher.algorithm.engine import Engine
from cipher.algorithm.inner import decrypt_image, encrypt_image
from cipher.container.api import open_array, open_bytes, verify
from cipher.keys.passphrase import open_
from tests.cipher import recipes

INNER = json.loads(recipes.INNER.read_text())
CONTAINER = json.loads(recipes.CONTAINER.read_text())
ENGINES = recipes.engines()


@pytest.fixture(params=ENGINES, ids=lambda engine: engine.name)
def engine(request: pytest.FixtureRequest) -> Engine:
    return request.param


def test_every_recipe_is_frozen_and_no_other() -> None:
    assert list(INNER["images"]) == list(recipes.IMAGES)
    assert list(CONTAINER["objects"]) == list(recipes.OBJECTS)
    assert list(CONTAINER["passphrase"]) == list(recipes.BLOBS)


def test_network_is_as_frozen(engine: Engine) -> None:
    assert recipes.network_vector(engine) == INNER["network"]


def test_cipher_images_are_as_frozen(engine: Engine) -> None:
    assert recipes.inner_vectors(engine) == INNER["images"]


@pytest.mark.parametrize("name", recipes.IMAGES)
def test_frozen_cipher_images_are_decrypted_equal(name: str, engine: Engine) -> None:
    plain = recipes.image(name)
    key, salt = recipes.key_and_salt(name)
    back = decrypt_image(encrypt_image(plain, key, salt, engine=engine), key, salt, engine=engine)
    assert back.shape == plain.shape
    assert back.tobytes() == plain.tobytes()
    assert recipes.digest(back.tobytes()) == INNER["images"][name]["plain_sha256"]


@pytest.mark.parametrize("name", recipes.OBJECTS)
def test_sealing_is_as_frozen_under_the_same_randomness(name: str) -> None:
    with recipes.fixed_random(name):
        assert recipes.OBJECTS[name]().hex() == CONTAINER["objects"][name]


def test_frozen_objects_open() -> None:
    key = recipes.vault_key()
    objects = {name: bytes.fromhex(text) for name, text in CONTAINER["objects"].items()}
    assert open_bytes(objects["a file"], key) == b"some bytes of a file"
    assert open_bytes(objects["an empty file"], key) == b""
    assert open_bytes(objects["a file rekeyed"], key) == b"rekeyed"
    assert open_bytes(objects["labels and something bound"], key, associated=b"attributes") == b"body"
    whole = b"before" + recipes.image("12 bit in 16").tobytes() + b"after it"
    assert open_bytes(objects["a file with pixels"], key) == whole
    assert open_bytes(objects["a file in chunks"], key) == whole
    array = open_array(objects["an array"], key)
    expected = recipes.image("signed 16 bit big-endian")
    assert array.dtype == expected.dtype
    np.testing.assert_array_equal(array, expected)
    np.testing.assert_array_equal(open_array(objects["a boolean array"], key), recipes.image("1 bit unpacked"))
    opened = verify(objects["a third version"], key)
    assert (opened.version.object_id, opened.version.number) == ("ab" * 16, 3)


@pytest.mark.parametrize("name", recipes.BLOBS)
def test_frozen_passphrase_blobs_open(name: str) -> None:
    blob = bytes.fromhex(CONTAINER["passphrase"][name])
    assert open_(blob, recipes.PASSPHRASE, "vault key") == recipes.vault_key().secret


def test_everything_is_as_frozen_where_numba_is_not_installed() -> None:
    code = "import sys; sys.modules['numba'] = None; from tests.cipher import recipes; sys.exit(recipes.main([]))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "engine numpy" in done.stdout
    assert "engine numba" not in done.stdout
