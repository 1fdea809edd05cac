"""The files of docs/deploy, run unchanged as far as that is possible here."""

import re
import shutil
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import httpx2
import pytest

from he_infer.server.settings import ServerSettings, load_settings
from tests.he_infer.server.support.kit import write_bundle
from tests.he_infer.server.support.processes import held_bytes

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "docs" / "deploy"
UNIT = (DEPLOY / "he-infer.service").read_text()
CONTAINER = (DEPLOY / "Containerfile").read_text()


def test_the_settings_file_is_accepted_and_its_comments_are_settings() -> None:
    settings = load_settings(DEPLOY / "server.toml")
    assert settings.host == "127.0.0.1"
    text = (DEPLOY / "server.toml").read_text()
    commented = "\n".join(line.removeprefix("# ") for line in text.splitlines() if re.match(r"# \w+ = ", line))
    assert tomllib.loads(commented).keys() == {"database_url", "blob_url", "signing_key"}
    assert tomllib.loads(commented).keys() <= ServerSettings.model_fields.keys()


def test_the_settings_are_checked_without_starting_anything(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "he_infer", "serve", "--check", "--config"]
    done = subprocess.run([*command, str(DEPLOY / "server.toml")], capture_output=True, text=True, timeout=60)
    assert '"requests_per_minute": 600' in done.stdout, done.stderr
    wrong = tmp_path / "server.toml"
    wrong.write_text('bundles = ["a"]\nrequests_per_minute = 0\n')
    done = subprocess.run([*command, str(wrong)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "requests_per_minute" in done.stderr
    assert "Traceback" not in done.stderr


def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd is not installed (Debian: apt-get install systemd)")
    unit = tmp_path / "he-infer.service"
    unit.write_text(UNIT.replace("/opt/he-infer/bin/he-infer", "/bin/true"))  # which is not installed here
    done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    command = ["systemd-analyze", "security", "--offline=true", "--threshold=20", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout[-500:]  # at most 2.0 of 10


def test_server_requirements_have_a_hash_for_every_pin_and_no_address() -> None:
    text = (ROOT / "requirements-server.txt").read_text()
    assert "://" not in text
    assert not re.search(r"^--", text, re.MULTILINE)
    pins = dict(re.findall(r"^([a-z0-9-]+)==(\S+) \\$", text, re.MULTILINE))
    assert len(pins) == len(re.findall(r"^[a-z]", text, re.MULTILINE))
    for entry in re.split(r"^(?=[a-z])", text, flags=re.MULTILINE)[1:]:
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", entry), entry
    pinned = dict(re.findall(r"^([A-Za-z0-9_.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
    pinned = {name.lower().replace("_", "-").replace(".", "-"): version for name, version in pinned.items()}
    assert pins.items() <= pinned.items()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    needed = [*project["dependencies"], *extras["server"], *extras["postgres"]]
    names = {re.split(r"[\[<>=!~ ;]", line)[0].lower().replace("_", "-") for line in needed}
    assert names <= pins.keys()


def test_the_unit_waits_longer_than_the_server_drains() -> None:
    match = re.search(r"^TimeoutStopSec=(\d+)$", UNIT, re.MULTILINE)
    assert match is not None
    assert int(match.group(1)) > ServerSettings.model_fields["drain_seconds"].default


def test_the_container_file_copies_what_the_package_is_built_from_and_no_more() -> None:
    copied = set(re.findall(r"^COPY (?!--from)(.+) \./?\S*$", CONTAINER, re.MULTILINE))
    names = {name for line in copied for name in line.split()}
    assert all((ROOT / name).exists() for name in names)
    assert names >= {"pyproject.toml", "constraints.txt", "README.md", "LICENSE"}
    assert re.search(r"^USER 10001$", CONTAINER, re.MULTILINE)
    for variable in re.findall(r"HE_INFER_SERVER_(\w+)=", CONTAINER):
        assert variable.lower() in ServerSettings.model_fields


@pytest.mark.slow  # installs the server into an environment of its own, about a minute
def test_container_install_line_brings_server_without_torch(tmp_path: Path) -> None:
    source = tmp_path / "src"
    source.mkdir()
    for line in re.findall(r"^COPY (?!--from)(.+) \./?\S*$", CONTAINER, re.MULTILINE):
        for name in line.split():
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy2(ROOT / name, source / name)
    (line,) = re.findall(r"^RUN (python -m venv .+\n.+)$", CONTAINER, re.MULTILINE)
    line = (
        line.replace("/opt/he-infer", str(tmp_path / "venv"))
        .replace("\\\n", "")
        .replace("python -m", f"{sys.executable} -m", 1)
    )
    subprocess.run(line, shell=True, check=True, cwd=source, timeout=900)
    programs = tmp_path / "venv" / "bin"
    listed = subprocess.run([programs / "pip", "list", "--format=freeze"], capture_output=True, text=True, check=True)
    names = {entry.split("==")[0].lower() for entry in listed.stdout.split()}
    assert {"he-infer", "tenseal", "psycopg", "alembic"} <= names
    assert not names & {"torch", "torchvision", "scikit-learn", "pydicom", "pillow", "scipy", "numba", "matplotlib"}

    bundle = write_bundle(tmp_path / "toy.hebundle")
    port_file = tmp_path / "port"
    started = time.monotonic()
    server = subprocess.Popen(
        [
            programs / "he-infer",
            "serve",
            bundle,
            "--data-dir",
            tmp_path / "data",
            "--port",
            "0",
            "--port-file",
            port_file,
        ],
        cwd=tmp_path,
    )
    try:
        while not port_file.exists():
            assert server.poll() is None
            time.sleep(0.01)
        assert httpx2.get(f"http://127.0.0.1:{port_file.read_text().strip()}/readyz").json() == {"status": "ready"}
        seconds = time.monotonic() - started
        held = held_bytes(server.pid)
        size = sum(path.stat().st_size for path in (tmp_path / "venv").rglob("*") if path.is_file())
        print(f"{len(names)} packages, {size / 1e6:.0f} MB; ready after {seconds:.2f} s, {held / 1e6:.0f} MB of memory")
        assert held < 400e6
    finally:
        server.terminate()
        server.wait(60)
