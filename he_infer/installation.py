"""The command that adds an extra to this installation of he-infer, for messages that name one."""

import json
import shlex
import sys
from importlib.metadata import PackageNotFoundError, distribution
from typing import Any
from urllib.parse import unquote, urlsplit

_NAME = "he-infer"


def install_command(*extras: str) -> str:
    """Command that installs extras where and as he-infer itself was installed.

    he-infer comes from a folder with its source, a wheel or an index. pip notes which (PEP 610), so the command names
    that place, and this interpreter's own pip, which need not be the one on the shell's path.
    """
    named = f"{_NAME}[{','.join(extras)}]"
    try:
        note = distribution(_NAME).read_text("direct_url.json")
    except PackageNotFoundError:
        note = None
    words = _name_source(json.loads(note), named) if note else [named]
    return shlex.join([sys.executable, "-m", "pip", "install", *words])


def _name_source(origin: dict[str, Any], named: str) -> list[str]:
    """Words for pip that name a requirement and the place of PEP 610 that it comes from."""
    url = origin["url"]
    if "dir_info" in origin:
        path = unquote(urlsplit(url).path) + named.removeprefix(_NAME)
        return ["--editable", path] if origin["dir_info"].get("editable") else [path]
    if "vcs_info" in origin:
        url = f"{origin['vcs_info']['vcs']}+{url}@{origin['vcs_info']['commit_id']}"
    return [f"{named} @ {url}"]
