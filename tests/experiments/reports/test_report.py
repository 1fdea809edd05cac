"""Reports and comparisons: figures are shown with their command, and all come from the records."""

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from experiments.cli import app
from experiments.records import records
from experiments.records.finish import format_command, write_outcome
from experiments.records.records import Record
from experiments.reports import comparison, report_page, tables


def _record(kind: str, figures: dict[str, Any], seed: int = 0, **parameters: Any) -> Record:
    parameters = {"dataset": "discs", **parameters}
    command = f"he-experiments {kind} --seed {seed}"
    return Record.of(kind, command=command, seed=seed, parameters=parameters, figures=figures)


def _accuracy(seed: int, value: float, head: str = "mlp") -> Record:
    clear = {"accuracy": value, "accuracy_interval": [value - 0.02, value + 0.02], "auc": 0.9}
    sealed = {**clear, "mcnemar_p": 1.0, "flips_beyond_error": 0, "score_error": {"largest": 1e-4}}
    return _record("accuracy", {"n": 100, "clear": clear, "encrypted": sealed}, seed, head=head)


def _every_kind() -> list[Record]:
    rebuilt = {way: {"psnr": 20.0, "ssim": 0.5, "found": 0.5} for way in ("decoder", "ciphertext, linear map")}
    signal = {"auc": 0.6, "low": 0.5, "high": 0.7, "caught": 0.01}
    row = {"head": "mlp", "path": "in clear", "images": 9, "accuracy": 0.9, "wall_ms": 0.1, "cpu_ms": 0.1, "ratio": 0.1}
    row |= {"bytes_up": 0, "bytes_down": 0, "key_bytes": 0, "largest_error": None}
    sealed = {**row, "path": "encrypted here, hidden", "bytes_up": 150_000, "bytes_down": 130_000, "wall_ms": 20.0}
    quality = {"networks": 1, "auc": 0.9, "accuracy": 0.8, "balanced_accuracy": 0.7, "log_loss": 0.5}
    return [
        _accuracy(0, 0.9),
        _accuracy(1, 0.92),
        _record("inversion", {"test_images": 60, "ciphertexts": 40, "rebuilt": rebuilt}),
        _record("membership", {"signals": {"label alone": signal, "score": signal}}),
        _record("price", {"rows": [row, sealed]}),
        _record(
            "crossval", {"1": quality, "2": {**quality, "networks": 2}}, head="mlp", width=64, offset=1.0, mixup=0.0
        ),
        _record("extraction", {"rows": [{"policy": "open", "queries": 3}, {"policy": "hidden", "queries": 9}]}),
        _record("paper-6a", {"restored_exactly": True, "deep": {"number": 0.25, "none": None}}),
        _record("something new", {"figure|of": 1}),
    ]


@pytest.fixture
def files(tmp_path: Path) -> Path:
    path = tmp_path / "all.jsonl"
    for record in _every_kind():
        records.append_record(path, record)
    return path


def test_report_page_refers_to_nothing_outside_and_holds_every_command(files: Path, tmp_path: Path) -> None:
    page = tmp_path / "r.html"
    result = CliRunner().invoke(app, f"report {files} --html {page}")
    assert result.exit_code == 0, result.output
    assert "9 runs of 8 kinds" in result.output
    text = page.read_text(encoding="utf-8")
    assert not re.search(r"""(?:src|href)\s*=\s*["'](?!data:|#)""", text)
    assert "<script" not in text
    assert len(re.findall(r'<img src="data:image/png', text)) == 4
    for record in _every_kind():
        assert record.command in text


def test_the_markdown_tables_are_rectangular_and_their_charts_are_there(files: Path, tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    out, images = tmp_path / "docs" / "r.md", tmp_path / "docs" / "images"
    result = CliRunner().invoke(app, f"report {files} --markdown {out} --images {images}")
    assert result.exit_code == 0, result.output
    text = out.read_text(encoding="utf-8")
    for link in re.findall(r"\]\((images/[^)]+)\)", text):
        assert (tmp_path / "docs" / link).read_bytes().startswith(b"\x89PNG")
    for block in re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE):
        bars = {re.sub(r"\\\|", "", line).count("|") for line in block.splitlines()}
        assert len(bars) == 1
    assert "figure\\|of" in text


def test_seeds_of_one_configuration_are_one_row_with_mean_and_spread() -> None:
    kept = [_accuracy(0, 0.9), _accuracy(1, 0.92), _accuracy(0, 0.8, head="linear"), _accuracy(0, 0.91)]
    (section,) = tables.group_sections(kept)
    rows = tables.make_table(section).rows
    # The last of two runs with one seed counts.
    assert [(row[1], row[3]) for row in rows] == [("2", "0.9150 ± 0.0071"), ("1", "0.8000")]


def test_picture_is_shown_only_if_it_belongs_to_the_record(tmp_path: Path) -> None:
    from rich.console import Console

    from experiments.present.drawing import draw_picture

    drawn = draw_picture(lambda figure: figure.subplots().plot([1, 2]), (2, 1), "a line")
    file = tmp_path / "p.png"
    write_outcome(
        Console(quiet=True),
        "paper-6a",
        command=format_command("paper", "6a", out="x y", limit=None),
        seed=1,
        parameters={},
        figures={},
        drawn=drawn,
        figure=file,
        record=tmp_path / "r.jsonl",
    )
    kept = records.read_records(tmp_path / "r.jsonl")
    assert kept[0].command == "he-experiments paper 6a --out 'x y'"

    def shown() -> report_page.RunPicture:
        (part,) = report_page.make_parts([(tmp_path / "r.jsonl", kept)])
        return part.pictures[0]

    assert shown().picture == drawn
    file.write_bytes(drawn.data + b"x")
    assert "another run" in shown().why
    file.unlink()
    assert "not beside" in shown().why


def test_runs_of_one_configuration_differ_in_the_seed_alone() -> None:
    runs = [
        _record("accuracy", {"n": 9}, seed, head="mlp", width=512, batch=batch, precision=precision)
        for seed, batch, precision in ((0, 1, 1e-3), (1, 1, 1e-3), (0, 64, 1e-3), (0, 1, 1e-4))
    ]
    groups = tables.group_by_configuration(runs)
    assert list(groups.values()) == [runs[:2], runs[2:3], runs[3:]]
    assert list(groups)[1] == ("discs", "512", "mlp", "64 a request")


def test_report_without_output_is_refused(files: Path) -> None:
    result = CliRunner().invoke(app, f"report {files}")
    assert "Nothing to write" in str(result.exception)


# Comparing


def test_comparing_equal_records_gives_no_changes() -> None:
    found = comparison.compare_records(_every_kind(), _every_kind(), tolerance=0, time_tolerance=0)
    assert found.runs == 9
    assert found.figures == found.surroundings == found.only_before == found.only_after == ()


def test_changes_beyond_tolerance_are_listed_and_times_have_their_own_tolerance() -> None:
    def record(**figures: Any) -> Record:
        return _record("x", {"accuracy": 0.9, "wall_ms": 10.0, "restored": True, **figures})

    def changed(tolerance: float, time_tolerance: float, **figures: Any) -> list[str]:
        found = comparison.compare_records(
            [record()], [record(**figures)], tolerance=tolerance, time_tolerance=time_tolerance
        )
        return [change.name for change in found.figures]

    assert changed(0.01, 0.25, accuracy=0.905) == []
    assert changed(0.001, 0.25, accuracy=0.905) == ["accuracy"]
    assert changed(0.01, 0.25, wall_ms=12.0) == []
    assert changed(0.01, 0.1, wall_ms=12.0) == ["wall_ms"]
    assert changed(0.5, 0.5, restored=False) == ["restored"]
    assert changed(0.5, 0.5, new=1) == ["new"]
    # A picture is drawn anew with each version of matplotlib; it is no figure.
    assert changed(0, 0, picture={"sha256": "x"}) == []


def test_compare_lists_changed_versions_and_missing_runs(tmp_path: Path) -> None:
    before, after = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    one = _accuracy(0, 0.9)
    records.append_record(before, one)
    records.append_record(before, _accuracy(1, 0.9))
    records.append_record(after, dataclasses.replace(one, versions={**one.versions, "numpy": "0.0"}))
    result = CliRunner().invoke(app, f"compare {before} {after} --strict --json {tmp_path}/c.json")
    assert result.exit_code == 1
    assert "Only in A: he-experiments accuracy --seed 1" in result.output
    assert "versions: numpy" in result.output
    assert CliRunner().invoke(app, f"compare {before} {before} --strict").exit_code == 0
