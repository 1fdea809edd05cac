"""The pictures of Algorithm 1's stages are pictures of the cipher itself."""

from pathlib import Path

import numpy as np
import pytest
from pydicom.data import get_testdata_file
from typer.testing import CliRunner

from cipher.errors import UnsupportedImage
from experiments.cli import app
from experiments.image_cipher.stages import prepare_image, run_stages

IMAGE = np.arange(64 * 96, dtype=np.uint16).reshape(64, 96) // 7


def test_last_stage_equals_the_cipher_image_and_one_changed_pixel_spreads() -> None:
    stages = list(run_stages(IMAGE))
    np.testing.assert_array_equal(stages[0].grid, IMAGE)
    ones = [int(np.bitwise_count(stage.grid).sum()) for stage in stages[:2]]
    assert ones[0] == ones[1], "scrambling only moves words and turns their bits"
    assert stages[0].touched.mean() == 1 / IMAGE.size
    assert (stages[2].grid != stages[1].grid).sum() <= 8, "the head alone"
    assert stages[3].touched.mean() > 0.998
    assert stages[4].touched.mean() > 0.998


def test_preparation_counts_and_orders_every_partition() -> None:
    found = prepare_image(IMAGE)
    assert found.ranks.shape == (32, 96)
    tiles = [draws.size for draws, _ in found.division.split_draws()]
    assert len(np.unique(found.ranks)) == max(tiles) <= sum(tiles)
    assert found.network.layers == found.features.layers()
    assert found.sheet.size == 256 * found.network.nodes


def test_narrow_images_are_refused() -> None:
    with pytest.raises(UnsupportedImage, match="32 pixels"):
        list(run_stages(IMAGE[:5, :7]))


def test_the_command_writes_a_picture_for_each_stage(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["cipher-stages", str(get_testdata_file("CT_small.dcm")), "--out", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert [path.name[:9] for path in sorted(tmp_path.iterdir())] == [f"cipher-{n}-" for n in range(1, 8)]
    assert all(path.read_bytes()[:4] == b"\x89PNG" for path in tmp_path.iterdir())
