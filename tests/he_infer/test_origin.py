"""A user's folder named `cipher` is not silently imported instead of this project's package."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def _import(statement: str, first_on_path: Path) -> subprocess.CompletedProcess[str]:
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); sys.path.insert(0, {str(first_on_path)!r}); {statement}"
    return subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("shadowed", ["cipher", "models", "experiments"])
@pytest.mark.parametrize("imported", ["he_infer", "experiments"])
def test_a_shadowed_sibling_is_named(tmp_path: Path, shadowed: str, imported: str) -> None:
    (tmp_path / shadowed).mkdir()
    (tmp_path / shadowed / "__init__.py").write_text("MINE = True\n")
    result = _import(f"import {imported}", tmp_path)
    if imported == shadowed:
        # Python loads only the user's package, so no code of this project runs, and no warning is possible or needed.
        assert result.returncode == 0, result.stderr
        return
    assert result.returncode != 0
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError:")
    assert str(tmp_path / shadowed) in last
    assert "Rename or move" in last


def test_cipher_loads_beside_a_models_package_of_the_user(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "__init__.py").write_text("MINE = True\n")
    result = _import("import cipher, models; assert models.MINE", tmp_path)
    assert result.returncode == 0, result.stderr


def test_a_folder_without_init_does_not_shadow(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "weights.txt").write_text("not a package")
    result = _import("import he_infer, cipher, models, experiments", tmp_path)
    assert result.returncode == 0, result.stderr


def test_packages_in_one_folder_are_accepted(tmp_path: Path) -> None:
    result = _import("import models, he_infer", tmp_path)
    assert result.returncode == 0, result.stderr
