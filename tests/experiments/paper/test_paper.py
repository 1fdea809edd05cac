"""The paper's items: the encrypted filter is the clear one, codecs lose nothing, and each command draws its picture."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow
from typer.testing import CliRunner

from experiments.cli import app
from experiments.paper import archive, filtering, image_keys
from experiments.records import records
from he_infer.errors import NotThisFormat

# 6b


@pytest.fixture(scope="module")
def client() -> filtering.FilterClient:
    return filtering.FilterClient()


@pytest.mark.parametrize("shape", [(64, 64), (20, 33), (70, 129)])
@pytest.mark.parametrize("name", ["gaussian", "uneven"])
def test_encrypted_filter_equals_clear_filter(
    client: filtering.FilterClient, shape: tuple[int, int], name: str
) -> None:
    random = np.random.default_rng(3)
    kernel = filtering.make_gaussian_kernel(5) if name == "gaussian" else random.uniform(0.1, 1, (3, 3))
    image = random.uniform(0, 1, shape)
    server = filtering.FilterServer(kernel, client.galois_keys(kernel))
    done: list[int] = []
    found = filtering.filter_encrypted(image, client, server, kernel, done.append)
    assert np.abs(found - filtering.filter_in_clear(image, kernel)).max() < 1e-5
    assert done == list(range(1, len(done) + 1))


def test_the_filter_needs_exactly_its_rotations(client: filtering.FilterClient) -> None:
    small, large = filtering.make_gaussian_kernel(3), filtering.make_gaussian_kernel(5)
    assert sorted(filtering.list_rotations(small)) == [-64, -1, 1, 64]
    assert len(filtering.list_rotations(large)) == 8
    with pytest.raises(NotThisFormat, match="size that the plan gives it"):
        filtering.FilterServer(large, client.galois_keys(small))


@given(height=st.integers(1, 200), width=st.integers(1, 200), margin=st.integers(1, 3))
def test_tiles_cover_an_image_and_stay_within_it(height: int, width: int, margin: int) -> None:
    covered = np.zeros((height, width), dtype=bool)
    for tile in filtering.cut_tiles(height, width, margin):
        bottom, right = tile.top + tile.height, tile.left + tile.width
        assert 0 < tile.height <= filtering.SIDE
        assert bottom <= height
        assert right <= width
        top, left = (margin if at else 0 for at in (tile.top, tile.left))
        covered[
            tile.top + top : bottom - (margin if bottom < height else 0),
            tile.left + left : right - (margin if right < width else 0),
        ] = True
    assert covered.all()


# 6d


@settings(max_examples=20)
@given(
    seed=st.integers(0, 99),
    sides=st.tuples(st.integers(8, 70), st.integers(8, 70)),
    dtype=st.sampled_from(["u1", "<u2"]),
)
def test_every_codec_gives_the_pixels_back(seed: int, sides: tuple[int, int], dtype: str) -> None:
    top = 256 ** np.dtype(dtype).itemsize
    pixels = np.random.default_rng(seed).integers(0, top, sides).astype(dtype)
    for encode, decode in archive.find_codecs([pixels]).values():
        assert np.array_equal(decode(encode(pixels)), pixels)


# 6f


def test_a_key_stream_depends_on_every_part_of_its_key() -> None:
    key, salt = bytes(range(32)), bytes(16)
    stream = image_keys.make_key_stream(key, salt, 4096)
    assert np.array_equal(stream, image_keys.make_key_stream(key, salt, 4096))
    others = (
        image_keys.make_key_stream(bytes([1, *key[1:]]), salt, 4096),
        image_keys.make_key_stream(key, bytes([1, *salt[1:]]), 4096),
        image_keys.make_key_stream(key, salt, 4096, image_keys.Stage.VERTICAL),
    )
    for other in others:
        assert 0.47 < float(np.unpackbits(stream ^ other).mean()) < 0.53


# The command


@pytest.mark.parametrize("item", ["6a", "6b", "fig3", "table2", "fig4"])
def test_paper_item_draws_its_picture_and_appends_a_record(item: str, tmp_path: Path) -> None:
    kept = tmp_path / "r.jsonl"
    result = CliRunner().invoke(app, f"paper {item} --image CT_small.dcm --out {tmp_path} --record {kept} --keys 4")
    assert result.exit_code == 0, result.output
    (record,) = records.read_records(kept)
    assert record.kind == f"paper-{item}"
    shown = (tmp_path / record.figures["picture"]["file"]).read_bytes()
    assert shown.startswith((b"\x89PNG", b"<?xml"))
    if item == "6a":
        assert record.figures["restored_exactly"] is True
        assert record.figures["right_pixels_with_one_key_bit_wrong"] < 0.01
    if item == "6b":
        assert record.figures["Gaussian 5 x 5"]["differing_8_bit_pixels"] < 20
        noisy = record.figures["noisy"]["psnr"]
        assert record.figures["Gaussian 3 x 3"]["encrypted"]["psnr"] > noisy + 3
    if item == "table2":
        rows = (tmp_path / "table-2.md").read_text(encoding="utf-8").splitlines()
        assert {row.count("|") for row in rows} == {5}


def test_images_are_stored_restored_and_classified(small_set: Path, small_bundle: Path, tmp_path: Path) -> None:
    kept = tmp_path / "r.jsonl"
    command = f"paper 6d --data {small_set} --bundle {small_bundle} --limit 6 --image CT_small.dcm --out {tmp_path}"
    result = CliRunner().invoke(app, f"{command} --record {kept}")
    assert result.exit_code == 0, result.output
    (record,) = records.read_records(kept)
    assert record.figures["restored_exactly"] == record.figures["images"] == record.figures["receipts_verified"] == 6
    orders = record.figures["orders"]["CT_small.dcm"]
    assert orders["exact"]
    assert orders["compressed"] < 0.7 < 1 < orders["encrypted first"]


def test_own_image_folder_is_classified_by_paper_6c(small_set: Path, tmp_path: Path) -> None:
    with np.load(small_set) as arrays:
        for index, (image, label) in enumerate(
            zip(arrays["train_images"][:80], arrays["train_labels"][:80], strict=True)
        ):
            folder = tmp_path / "set" / ("glioma", "meningioma")[int(label[0])]
            folder.mkdir(parents=True, exist_ok=True)
            Pillow.fromarray(image).save(folder / f"{index}.png")
    command = f"paper 6c --data {tmp_path}/set --epochs 1 --limit 4 --out {tmp_path} --record {tmp_path}/r.jsonl"
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert "No MRI tumour set" not in result.output
    (record,) = records.read_records(tmp_path / "r.jsonl")
    matrix = np.array(record.figures["confusion_encrypted"])
    assert matrix.sum() == record.figures["images"] == 4
    assert json.dumps(record.figures)
    assert re.search(r"labels alike", result.output)
