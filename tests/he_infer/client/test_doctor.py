"""The checks of `he-infer doctor` that need no server."""

import re
import tomllib
from pathlib import Path

from he_infer.client.doctor import CODECS, PACKAGES

PROJECT = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_every_package_of_a_client_is_checked() -> None:
    needed = [re.split(r"[=<>\[]", line)[0] for line in PROJECT["optional-dependencies"]["client"]]
    assert set(needed) <= {*PACKAGES, *CODECS}
