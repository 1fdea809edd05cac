"""The command that installs an extra: it names the place that he-infer was installed from."""

import json
import shlex
import sys
from importlib.metadata import PackageNotFoundError

import pytest

from he_infer import installation

URL = "file:///home/ann/my%20tools/he_infer"
WHEEL = "file:///srv/wheels/he_infer-0.1.0-py3-none-any.whl"


class _Distribution:
    def __init__(self, origin: object) -> None:
        self._origin = origin

    def read_text(self, name: str) -> str | None:
        assert name == "direct_url.json"
        return None if self._origin is None else json.dumps(self._origin)


@pytest.mark.parametrize(
    ("origin", "words"),
    [
        (None, ["he-infer[server,fast]"]),
        ({"url": URL, "dir_info": {}}, ["/home/ann/my tools/he_infer[server,fast]"]),
        ({"url": URL, "dir_info": {"editable": True}}, ["--editable", "/home/ann/my tools/he_infer[server,fast]"]),
        ({"url": WHEEL, "archive_info": {}}, [f"he-infer[server,fast] @ {WHEEL}"]),
        (
            {"url": "ssh://git@host.example/he", "vcs_info": {"vcs": "git", "commit_id": "ab12"}},
            ["he-infer[server,fast] @ git+ssh://git@host.example/he@ab12"],
        ),
    ],
    ids=["an index", "a folder", "a folder, editable", "a wheel", "a repository"],
)
def test_command_names_the_place_that_he_infer_came_from(
    origin: object, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(installation, "distribution", lambda name: _Distribution(origin))
    expected = [sys.executable, "-m", "pip", "install", *words]
    assert shlex.split(installation.install_command("server", "fast")) == expected


def test_source_that_was_never_installed_gets_the_bare_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> None:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(installation, "distribution", fail)
    assert installation.install_command("train").endswith("-m pip install 'he-infer[train]'")
