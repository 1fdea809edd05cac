"""Named profiles: address, model, key file, token file and certificates of one server, in one TOML file.

    [profiles.hospital]
    url = "https://cloud.example:8443"
    bundle = "chest.client.hebundle"
    key = "hospital.key"
    token_file = "cloud.token"
    ca_file = "cloud-ca.pem"

Paths are relative to the file's folder. A profile holds no secret: tokens and passphrases stay in files of mode 0600.
"""

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from he_infer.errors import UsageError
from he_infer.files import PRIVATE, write_text

VARIABLE = "HE_INFER_CONFIG"
"""Environment variable that names the configuration file; without it the platform's file is read."""
_PATHS = ("bundle", "key", "token_file", "ca_file", "client_cert")


@dataclass(frozen=True)
class Profile:
    """Settings of a client for one server; None if the profile does not state a value."""

    name: str
    url: str | None = None
    bundle: Path | None = None
    key: Path | None = None
    token_file: Path | None = None
    ca_file: Path | None = None
    client_cert: Path | None = None

    @staticmethod
    def load(name: str, file: Path | None = None) -> "Profile":
        """Read a profile.

        Args:
            name: name of the profile.
            file: the configuration file; by default the platform's.

        Raises:
            UsageError: there is no such file or profile, or the profile has unknown members.
            OSError: the file cannot be read.
        """
        path = file or find_config()
        profiles = read_profiles(path)
        if name not in profiles:
            known = ", ".join(sorted(profiles)) or "none"
            raise UsageError(f"{path} has no profile '{name}'; it has: {known}.")
        return profiles[name]

    def missing_files(self) -> list[tuple[str, Path]]:
        """Members that name a missing file."""
        named = ((member, getattr(self, member)) for member in _PATHS)
        return [(member, path) for member, path in named if path is not None and not path.exists()]


def find_config() -> Path:
    """The configuration file: HE_INFER_CONFIG, or `config.toml` in the platform's folder for he-infer."""
    given = os.environ.get(VARIABLE)
    if given:
        return Path(given)
    import platformdirs

    return Path(platformdirs.user_config_dir("he-infer", appauthor=False)) / "config.toml"


def read_profiles(path: Path) -> dict[str, Profile]:
    """Read all profiles of a configuration file.

    Raises:
        UsageError: there is no such file, or it holds something other than profiles.
        OSError: the file cannot be read.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise UsageError(
            f"There is no configuration file {path}. Write one with a table [profiles.NAME], or name "
            f"another in {VARIABLE}."
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"{path} is not a TOML file in UTF-8: {error}") from error
    tables = content.get("profiles", {})
    if set(content) - {"profiles"} or not isinstance(tables, dict):
        raise UsageError(f"{path} may hold tables [profiles.NAME] alone.")
    return {name: _parse(path, name, table) for name, table in tables.items()}


def save_profile(path: Path, name: str, settings: Mapping[str, str]) -> None:
    """Add a profile to a configuration file, or replace it. Comments and all other profiles stay as they are.

    Args:
        path: the configuration file; it is made where it is missing.
        name: name of the profile: letters, digits, `.`, `_` and `-`.
        settings: the profile's members; empty ones are left out.

    Raises:
        UsageError: the name or a member is not usable, or the file holds something other than profiles.
        OSError: the file cannot be read or written.
    """
    import tomlkit

    if not re.fullmatch(r"[A-Za-z0-9._-]{1,40}", name):
        raise UsageError("A profile's name has 1 to 40 letters, digits, dots, underscores and hyphens.")
    given = {member: value for member, value in settings.items() if value}
    if not all(value.isprintable() for value in given.values()):
        raise UsageError("A profile's members are printable texts of one line.")
    _parse(path, name, given)
    document = _read_document(path)
    table = tomlkit.table()
    for member, value in given.items():
        table.add(member, value)
    document.setdefault("profiles", tomlkit.table(is_super_table=True))[name] = table
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_text(path, tomlkit.dumps(document), mode=PRIVATE)


def remove_profile(path: Path, name: str) -> None:
    """Remove a profile from a configuration file. Its files stay.

    Raises:
        UsageError: there is no such file or profile.
        OSError: the file cannot be read or written.
    """
    import tomlkit

    if name not in read_profiles(path):
        raise UsageError(f"{path} has no profile '{name}'.")
    document = _read_document(path)
    del document["profiles"][name]
    write_text(path, tomlkit.dumps(document), mode=PRIVATE)


def _read_document(path: Path) -> Any:
    """A configuration file with its comments; an empty one where there is no file."""
    import tomlkit

    if not path.exists():
        return tomlkit.document()
    read_profiles(path)
    return tomlkit.parse(path.read_text(encoding="utf-8-sig"))


def _parse(path: Path, name: str, table: Any) -> Profile:
    known = {each.name for each in fields(Profile)} - {"name"}
    if not isinstance(table, dict) or set(table) - known or not all(isinstance(value, str) for value in table.values()):
        raise UsageError(f"{path}: the profile '{name}' may hold texts named {', '.join(sorted(known))} alone.")
    found = {member: path.parent / Path(value).expanduser() for member, value in table.items() if member in _PATHS}
    return Profile(name=name, url=table.get("url"), **found)
