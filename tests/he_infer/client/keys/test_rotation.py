"""Rotation against a real server: new keys work at once, replaced keys are deleted after their overlap."""

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from he_infer.client.keys.key_file import KeyFile
from tests.e2e.kit import WORDS, images, run
from tests.he_infer.client.scene import Scene

pytestmark = pytest.mark.slow


def test_rotated_keys_classify_and_replaced_ones_end_with_their_overlap(scene: Scene, tmp_path: Path) -> None:
    key, copy, picture = tmp_path / "own.key", tmp_path / "copy.key", tmp_path / "image.png"
    reach = ("--url", scene.server.url, "--token-file", scene.token)
    Image.fromarray(images(0, 1, 4)[0]).save(picture)

    def classify(with_key: Path, status: int = 0) -> str:
        return run(
            "classify", picture, "--bundle", scene.model, "--key", with_key, *reach, "--json", tmp_path / "out.json",
            HE_INFER_PASSPHRASE=WORDS, status=status,
        )  # fmt: skip

    run("keys", "new", key, "--bundle", scene.model, *reach, HE_INFER_PASSPHRASE=WORDS)
    shutil.copy(key, copy)
    first = KeyFile.load(key, WORDS).key_set
    run("keys", "rotate", key, "--overlap-days", 1, *reach, HE_INFER_PASSPHRASE=WORDS)
    second = KeyFile.load(key, WORDS).key_set
    assert second != first
    for usable in (key, copy):
        classify(usable)
    said = run("keys", "rotate", key, "--overlap-days", 0, *reach, HE_INFER_PASSPHRASE=WORDS)
    assert "1 replaced key sets deleted at the server, 1 in their overlap" in said
    kept = KeyFile.load(key, WORDS)
    assert [each.key_set for each in kept.retired] == [first]
    listed = run("keys", "list", *reach)
    assert second not in listed
    assert first in listed
    classify(copy)
    classify(key)
    assert json.loads((tmp_path / "out.json").read_text())["images"]
    assert "0 replaced key sets deleted" in run("keys", "prune", key, *reach, HE_INFER_PASSPHRASE=WORDS)
