"""The speed command times every cipher and checks its output; no test here depends on a timing."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from experiments.cli import app
from experiments.image_cipher import chaotic_peer
from experiments.image_cipher.timing import AES, CHAOTIC, NUMPY, TimedCipher, list_subjects, make_test_image, time_all


def test_the_command_prints_every_cipher_and_writes_the_figures(tmp_path: Path) -> None:
    path = tmp_path / "speed.json"
    arguments = ["cipher-speed", "--side", "64", "--repeats", "2", "--files", "2", "--json", str(path)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert all(name in result.output for name in (AES, NUMPY, CHAOTIC))
    said = json.loads(path.read_text())
    assert {speed["subject"] for speed in said["speeds"]} == {subject.name for subject in list_subjects()}
    assert len(said["speeds"]) == 4 * len(list_subjects())
    for speed in said["speeds"]:
        assert min(value for name, value in speed.items() if name.endswith("_s")) > 0
        if speed["subject"] == AES:
            assert speed["aes_takes"] == 1
    assert [folder["files"] for folder in said["folders"]][:1] == [2]
    assert said["missed"] == [], "targets are for the full size alone"


def test_a_cipher_that_does_not_give_the_image_back_is_not_timed() -> None:
    broken = TimedCipher(AES, lambda image: image.tobytes(), lambda made: made[:-1])
    with pytest.raises(RuntimeError, match="did not give back"):
        time_all(make_test_image(64, np.uint8), 1, lambda _: None, [broken])


def test_chaotic_cipher_restores_the_image_and_flattens_the_histogram() -> None:
    image = make_test_image(64, np.uint16)
    made = chaotic_peer.encrypt(image, b"key")
    assert chaotic_peer.decrypt(made, b"key").tobytes() == image.tobytes()
    assert chaotic_peer.decrypt(made, b"other").tobytes() != image.tobytes()
    assert len(set(made.tolist())) > 250
