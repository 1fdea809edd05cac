"""`he-experiments cipher`: its input, its output, and its errors."""

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image as Pillow
from typer.testing import CliRunner

from cipher.analysis import correlation, robustness
from cipher.analysis.line import Verdict
from cipher.analysis.suite import Effort, Seeds
from cipher.errors import UnsupportedImage
from experiments.image_cipher.command import cipher
from experiments.image_cipher.images import NamedImage, load_image
from experiments.image_cipher.report import (
    EvaluationRun,
    StudySummary,
    format_number,
    render_html,
    render_json,
    render_markdown,
)
from experiments.image_cipher.study import Study, crop_to_control, run_study


def _pixels() -> np.ndarray:
    y, x = np.mgrid[-1:1:64j, -1:1:72j]
    noise = np.random.default_rng(4).normal(0, 5, x.shape)
    return (600 * np.exp(-4 * (x**2 + y**2)) + 150 + noise).astype(np.uint16)


@pytest.fixture(scope="module")
def finished() -> Study:
    """Run a small study with its controls; most of its time goes to SP 800-22."""
    seen: list[tuple[str, int, int]] = []

    def progress(step: str, done: int, total: int) -> None:
        seen.append((step, done, total))

    result = run_study(
        NamedImage("made.npy", _pixels()), Effort.for_keys(20), Seeds(1), controls=True, progress=progress
    )
    last = {step: (done, total) for step, done, total in seen}
    assert all(done == total for done, total in last.values())
    assert len(last) == 8
    return result


@pytest.fixture(scope="module")
def run(finished: Study) -> EvaluationRun:
    return EvaluationRun((finished,), Seeds(1), 20, "he-experiments cipher made.npy")


@pytest.fixture
def invoke() -> Callable[..., object]:
    app = typer.Typer()
    app.command()(cipher)
    return lambda *arguments: CliRunner().invoke(app, list(arguments))


# Reading


def test_a_file_of_pydicom_is_found_by_name() -> None:
    image = load_image("CT_small.dcm")
    assert image.pixels.shape == (128, 128)
    assert image.described == "CT_small.dcm, 128 x 128, int16"


def test_png_and_numpy_files_are_read(tmp_path: Path) -> None:
    grey = _pixels().astype(np.uint8)
    Pillow.fromarray(np.dstack([grey] * 3)).save(tmp_path / "colour.png")
    np.save(tmp_path / "deep.npy", _pixels())
    assert load_image(str(tmp_path / "colour.png")).pixels.shape == (64, 72, 3)
    assert np.array_equal(load_image(str(tmp_path / "deep.npy")).pixels, _pixels())


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("text.dcm", b"no image at all", "neither DICOM"),
        ("text.png", b"no image at all", "not a picture"),
        ("text.npy", b"no image at all", "not a NumPy array"),
    ],
)
def test_file_without_image_is_refused(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UnsupportedImage, match=message):
        load_image(str(tmp_path / name))


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.zeros((64, 64), dtype=np.uint8), "one single value"),
        (np.arange(4096, dtype=np.uint16).reshape(4, 1024), "32 pixels or more to a side"),
        (np.zeros((64, 64)), "integer pixels"),
        (np.eye(8, dtype=np.uint8), "32 pixels or more to a side"),
    ],
)
def test_image_too_small_or_constant_is_refused(tmp_path: Path, pixels: np.ndarray, message: str) -> None:
    np.save(tmp_path / "x.npy", pixels)
    with pytest.raises(UnsupportedImage, match=message):
        load_image(str(tmp_path / "x.npy"))


def test_a_missing_file_is_named() -> None:
    with pytest.raises(FileNotFoundError, match="absent"):
        load_image("absent.dcm")


# The study


def test_inner_cipher_and_ideal_control_pass_and_toy_fails(finished: Study) -> None:
    assert finished.surprises == []
    assert all(evaluation.passed for evaluation in (*finished.ours, *finished.positive))
    assert not finished.negative[0].passed
    toy, ours = finished.attacks
    assert toy.right_bytes == 1.0
    assert toy.period < 1000
    assert ours.right_bytes < 0.01
    assert np.array_equal(toy.recovered, finished.image.pixels)
    assert np.array_equal(finished.restored, finished.image.pixels)


def test_every_damage_ruins_the_whole_plain_image(finished: Study) -> None:
    """A wide block: larger occlusions do no more than one changed pixel. Chance leaves one pixel of 65536 as it was."""
    assert {case.name: case for case in finished.noise}["one cipher pixel changed"].damaged_pixels == 1
    assert len(finished.noise) == len(robustness.CASES)
    for case in finished.noise:
        assert case.wrong_pixels >= finished.image.pixels.size - 2, case.name
        assert case.psnr < 15, case.name


def test_failed_lines_are_listed_as_surprises(finished: Study) -> None:
    ours = finished.ours[0]
    spoilt = dataclasses.replace(ours.lines[0], verdict=Verdict.FAIL)
    weak = dataclasses.replace(ours, lines=(spoilt, *ours.lines[1:]))
    found = dataclasses.replace(finished, ours=(weak, *finished.ours[1:])).surprises
    assert found == ["inner cipher: adjacent-pixel correlation, horizontal"]
    blind = dataclasses.replace(finished, negative=finished.positive).surprises
    assert "the suite is blind" in blind[0]


def test_large_images_are_cropped_for_the_controls() -> None:
    assert crop_to_control(np.zeros((600, 700), np.uint8)).shape == (512, 512)
    assert crop_to_control(np.zeros((600, 700, 3), np.uint8)).shape == (512, 512, 3)
    assert crop_to_control(np.zeros((9, 600, 400), np.uint8)).shape == (512, 400)
    assert crop_to_control(np.zeros((100, 100), np.uint8)).shape == (100, 100)


# The report


def test_json_holds_every_line_and_published_table_2(run: EvaluationRun) -> None:
    document = json.loads(json.dumps(render_json(run), allow_nan=False))
    assert document["format"] == "he-infer cipher evaluation"
    assert document["version"] == 1
    assert document["surprises"] == []
    (image,) = document["images"]
    assert [row["r"] for row in image["table_2"]["published"]] == [list(r) for _, r in correlation.PUBLISHED]
    assert len(image["table_2"]["ours"]) == 3
    lines = image["ours"][0]["lines"]
    assert len(lines) > 50
    for line in lines:
        assert line["criterion"]
        assert line["source"]
        assert line["verdict"] in {"pass", "fail", "reported"}
    assert [e["subject"] for e in image["positive_controls"]] == ["ideal reference (LIONESS)", "AES-256-CTR"]
    assert image["attack"][0]["right_bytes"] == 1.0


def test_cipher_page_refers_to_nothing_outside(run: EvaluationRun) -> None:
    page = render_html(run)
    assert page.startswith("<!doctype html>")
    assert not re.search(r"""(?:src|href)\s*=\s*["'](?!data:)""", page)
    assert "<script" not in page
    images = re.findall(r'<img src="data:image/(?:png|svg\+xml);base64,[^"]+" alt="([^"]+)"', page)
    assert len(images) == 7
    assert all(len(text) > 20 for text in images)
    assert "All results are as expected" in page
    for name, _ in correlation.PUBLISHED:
        assert name.replace("'", "&#39;") in page
    assert "this project&#39;s inner cipher" in page or "this project's inner cipher" in page


def test_cipher_page_lists_failed_lines(finished: Study) -> None:
    ours = finished.ours[0]
    spoilt = dataclasses.replace(ours.lines[0], verdict=Verdict.FAIL)
    bad = dataclasses.replace(
        finished, ours=(dataclasses.replace(ours, lines=(spoilt, *ours.lines[1:])), *finished.ours[1:])
    )
    page = render_html(
        EvaluationRun((dataclasses.replace(bad, image=NamedImage("<b>.npy", bad.image.pixels)),), Seeds(1), 20, "x")
    )
    assert "Lines that failed" in page
    assert "&lt;b&gt;.npy" in page
    assert "<b>.npy" not in page


def test_the_summary_has_a_column_for_each_subject(finished: Study) -> None:
    summary = StudySummary.of(finished)
    assert summary.columns == ("inner cipher", "ideal control", "toy", "version 1")
    assert summary.rows["chosen images"]["toy"].verdict is Verdict.FAIL
    assert summary.rows["chosen images"]["inner cipher"].verdict is Verdict.PASS
    assert set(summary.rows["SP 800-22"]) == set(summary.columns) - {"version 1"}


def test_the_markdown_tables_are_rectangular_and_whole(run: EvaluationRun) -> None:
    text = render_markdown(run)
    rows = [line for line in text.splitlines() if line.startswith("|")]
    measures = [row for row in rows if row.count("|") == 9]
    lines = sum(len(evaluation.lines) for evaluation in run.studies[0].ours)
    headings = sum(row.startswith("| **") for row in measures)
    assert len(measures) == lines + headings + 2
    assert all(row.count("|") in {9, 6} for row in rows)


@pytest.mark.parametrize(
    ("value", "text"), [(None, ""), (1.0, "1"), (0.5, "0.5"), (1e-5, "1.00e-05"), (float("inf"), "∞"), (255.0, "255")]
)
def test_numbers_are_formatted_without_false_zeros(value: float | None, text: str) -> None:
    assert format_number(value) == text


# The command


def test_the_command_writes_its_report(tmp_path: Path, invoke: Callable[..., object]) -> None:
    np.save(tmp_path / "made.npy", _pixels()[:48, :48])
    figures, page = tmp_path / "f.json", tmp_path / "r.html"
    result = invoke(str(tmp_path / "made.npy"), "--keys", "20", "--json", str(figures), "--html", str(page))
    assert result.exit_code == 0, result.output
    assert "Passed: no line" in result.output
    assert json.loads(figures.read_text(encoding="utf-8"))["keys"] == 20
    assert page.stat().st_size > 100_000


def test_missing_output_folder_is_refused_before_the_work(invoke: Callable[..., object], tmp_path: Path) -> None:
    result = invoke("CT_small.dcm", "--json", str(tmp_path / "absent" / "f.json"))
    assert result.exit_code == 2
    assert "does not exist" in " ".join(result.output.replace("│", " ").split())


def test_too_few_keys_are_refused(invoke: Callable[..., object]) -> None:
    assert invoke("CT_small.dcm", "--keys", "3").exit_code == 2
