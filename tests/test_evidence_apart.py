"""The product runs without its evidence: neither `experiments` nor `cipher.analysis` is needed by what is installed."""

import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

IMPORT_ALL = """
import importlib, pkgutil, sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "experiments" or name.startswith("cipher.analysis"):
            raise ImportError(f"the product imported {name}")

sys.meta_path.insert(0, Refuse())
count = 0
for root in ("he_infer", "models", "cipher"):
    package = importlib.import_module(root)
    for found in pkgutil.walk_packages(package.__path__, root + ".", onerror=lambda name: None):
        if found.name.startswith("cipher.analysis") or found.name.rsplit(".")[-1] in ("__main__", "env"):
            continue
        if ".migrations.versions" in found.name:
            continue
        importlib.import_module(found.name)
        count += 1
print(count)
"""


def test_every_product_module_loads_without_experiments_and_analysis() -> None:
    done = subprocess.run([sys.executable, "-c", IMPORT_ALL], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 150


def test_import_wall_covers_every_package_of_the_product() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    (wall,) = [contract for contract in settings["contracts"] if contract["id"] == "evidence-apart"]
    parts = {f"cipher.{path.parent.name}" for path in (ROOT / "cipher").glob("*/__init__.py")} - {"cipher.analysis"}
    assert set(wall["source_modules"]) == {"he_infer", "models", *parts}
    assert set(wall["forbidden_modules"]) == {"experiments", "cipher.analysis"}
    assert "allow_indirect_imports" not in wall
