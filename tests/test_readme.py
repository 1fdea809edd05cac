"""The README's three steps and the script of "The system in ten minutes" run as they are written."""

import csv
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MOST_LINES = 25


def _environment() -> dict[str, str]:
    """A shell's environment with this virtual environment first, and no settings of he-infer."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HE_INFER_")}
    return kept | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


def _steps() -> str:
    blocks = re.findall(r"^```sh\n(# \d\. .*?)^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    assert [block[:4] for block in blocks] == ["# 1.", "# 2.", "# 3."]
    return "".join(blocks)


def _run_steps(folder: Path, script: str) -> None:
    command = ["bash", "-euc", script]
    with (folder / "said").open("w") as said:  # a file: a server that outlives a failed step would hold a pipe open
        done = subprocess.run(command, cwd=folder, env=_environment(), stdout=said, stderr=said, timeout=900)
    assert done.returncode == 0, (folder / "said").read_text()
    (row,) = csv.DictReader((folder / "hospital" / "results.csv").read_text().splitlines())
    assert row["label"] in ("CT", "MR", "ultrasound", "radiograph")
    scan = folder / "hospital" / "scans" / "CT_small.dcm"
    (restored,) = (folder / "hospital" / "restored").rglob("CT_small.dcm")
    assert restored.read_bytes() == scan.read_bytes()
    assert not list((folder / "cloud").rglob("*.client.hebundle"))
    assert not list((folder / "hospital").rglob("*.server.hebundle"))


def test_readme_steps_with_a_short_training_classify_and_restore(tmp_path: Path) -> None:
    script, count = re.subn(r"(he-infer train .*)", r"\1 --epochs 1", _steps())
    assert count == 1
    _run_steps(tmp_path, script)


@pytest.mark.slow
def test_readme_steps_as_written_classify_and_restore(tmp_path: Path) -> None:
    _run_steps(tmp_path, _steps())


def _script() -> str:
    page = (ROOT / "docs" / "ten-minutes.md").read_text()
    (script,) = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert script.count("\n") <= MOST_LINES
    return str(script)


def _run_script(folder: Path, script: str) -> str:
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=folder, env=_environment(), capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    label, seen = done.stdout.splitlines()
    assert re.fullmatch(r"[1-9]\d* files at the cloud; pixels in them: False", seen)
    return label


def test_ten_minutes_script_with_a_short_training_classifies_and_leaves_no_pixels(tmp_path: Path) -> None:
    short = 'train(load("modality"), recipe=__import__("models.training.train").training.train.Recipe(epochs=1))'
    script = _script()
    assert script.count('train(load("modality"))') == 1
    label = _run_script(tmp_path, script.replace('train(load("modality"))', short))
    assert re.fullmatch(r"\('CT_small\.dcm', '(CT|MR|ultrasound|radiograph)', 0\.\d+\)", label)


@pytest.mark.slow
def test_ten_minutes_script_as_written_names_the_right_class(tmp_path: Path) -> None:
    assert _run_script(tmp_path, _script()).startswith("('CT_small.dcm', 'CT', 0.")
