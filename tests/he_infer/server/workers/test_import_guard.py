"""The import guard, in separate processes: forbidden modules cannot be loaded in any way."""

import subprocess
import sys

import pytest

from he_infer.server.workers.import_guard import FORBIDDEN, is_forbidden


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("name", FORBIDDEN)
def test_nothing_forbidden_can_be_imported(name: str) -> None:
    code = f"""
from he_infer.server.workers import import_guard
import_guard.install()
for road in ("import {name}", "import importlib; importlib.import_module('{name}')", "__import__('{name}')"):
    try:
        exec(road)
    except import_guard.GuardedImport:
        continue
    raise SystemExit("loaded by: " + road)
"""
    done = run(code)
    assert done.returncode == 0, done.stderr


def test_a_loaded_forbidden_module_stops_the_guard_from_installing() -> None:
    done = run("import he_infer.client\nfrom he_infer.server.workers import import_guard\nimport_guard.install()")
    assert done.returncode == 1
    assert "he_infer.client" in done.stderr


def test_server_modules_load_behind_import_guard() -> None:
    code = """
from he_infer.server.workers import import_guard
import_guard.install()
import_guard.install()
import he_infer.server.main, he_infer.server.workers.worker
import sys
assert import_guard.installed()
assert not [name for name in sys.modules if import_guard.is_forbidden(name)]
"""
    done = run(code)
    assert done.returncode == 0, done.stderr


def test_names_that_only_begin_like_forbidden_ones_are_allowed() -> None:
    assert is_forbidden("torch.nn")
    assert not is_forbidden("torchlight")
    assert not is_forbidden("he_infer.clients")
    assert not is_forbidden("he_infer.server")


def test_server_processes_load_no_decryptor() -> None:
    """No loaded module of he_infer names the decryptor in its source, and the secret key cannot be imported."""
    code = """
from he_infer.server.workers import import_guard
import_guard.install()
import inspect, sys
import he_infer.server.main, he_infer.server.workers.worker, he_infer.server.workers.models
ours = [module for name, module in sys.modules.items() if name.startswith("he_infer")]
assert len(ours) > 20
for module in ours:
    source = inspect.getsource(module)
    assert "Decryptor" not in source and "KeyGenerator" not in source, module.__name__
try:
    from he_infer.client.keys.secret_key import SecretKey
except import_guard.GuardedImport:
    raise SystemExit(0)
raise SystemExit("loaded")
"""
    done = run(code)
    assert done.returncode == 0, done.stderr
