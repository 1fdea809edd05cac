"""Profiles of the configuration file, `he-infer doctor`, `--version`: from the command line, against a real server."""

from pathlib import Path

import pytest

from he_infer import Client, __version__
from he_infer.client.profiles import Profile, read_profiles, remove_profile, save_profile
from he_infer.errors import UsageError
from he_infer.local_server import LocalServer
from tests.he_infer.server.support.kit import write_bundle
from tests.he_infer.server.test_commands import WORDS, he_infer


def write_config(folder: Path, text: str) -> Path:
    path = folder / "config.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_paths_are_relative_to_the_configuration_file(tmp_path: Path) -> None:
    path = write_config(tmp_path, '[profiles.a]\nurl = "https://x"\nkey = "k.key"\nbundle = "/abs/m.client.hebundle"\n')
    profile = read_profiles(path)["a"]
    assert profile == Profile("a", "https://x", Path("/abs/m.client.hebundle"), tmp_path / "k.key")
    assert [member for member, _ in profile.missing_files()] == ["bundle", "key"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("profiles = 3", "alone"),
        ("[other]\na = 1", "alone"),
        ("[profiles.a]\ntoken = 'hei_x'", "alone"),
        ("[profiles.a]\nurl = 3", "alone"),
        ("[profiles", "not a TOML file"),
        ("a = " + "[" * 5000, "not a TOML file"),
        ("[profiles.b]\nurl = 'https://x'", "no profile 'a'; it has: b"),
        ("", "no profile 'a'; it has: none"),
    ],
)
def test_invalid_configuration_is_refused_by_name(tmp_path: Path, text: str, words: str) -> None:
    path = write_config(tmp_path, text)
    with pytest.raises(UsageError, match=words):
        Profile.load("a", path)


def test_saved_profile_is_read_back_and_all_else_stays(tmp_path: Path) -> None:
    path = write_config(tmp_path, '# by hand\n[profiles.a]\nurl = "https://x"  # the old one\n\n[profiles."b.c"]\n')
    settings = {"url": "https://y", "key": "ä k\\u.key", "ca_file": ""}
    save_profile(path, "new", settings)
    save_profile(path, "a", {"url": "https://z"})
    assert path.read_text(encoding="utf-8").startswith("# by hand\n")
    found = read_profiles(path)
    assert found["new"] == Profile("new", "https://y", key=tmp_path / "ä k\\u.key")
    assert found["a"] == Profile("a", "https://z")
    remove_profile(path, "new")
    remove_profile(path, "b.c")
    assert list(read_profiles(path)) == ["a"]
    with pytest.raises(UsageError, match="no profile 'new'"):
        remove_profile(path, "new")
    save_profile(tmp_path / "below" / "config.toml", "first", settings)
    assert list(read_profiles(tmp_path / "below" / "config.toml")) == ["first"]


@pytest.mark.parametrize("name", ["", "a b", "x" * 41, "é", "a]\n[b"])
def test_unusable_name_of_profile_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="1 to 40"):
        save_profile(tmp_path / "config.toml", name, {"url": "https://x"})
    assert not (tmp_path / "config.toml").exists()


@pytest.mark.parametrize("settings", [{"url": "a\nb"}, {"token": "hei_x"}, {"key": "\x00"}])
def test_unusable_member_of_profile_is_refused_and_file_stays(tmp_path: Path, settings: dict[str, str]) -> None:
    path = write_config(tmp_path, "[profiles.a]\n")
    with pytest.raises(UsageError):
        save_profile(path, "b", settings)
    assert path.read_text() == "[profiles.a]\n"


def test_missing_or_wrong_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no configuration file"):
        Profile.load("a", tmp_path / "none.toml")
    (tmp_path / "odd.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="UTF-8"):
        Profile.load("a", tmp_path / "odd.toml")
    path = write_config(tmp_path, '[profiles.a]\nurl="https://x"\nkey="k"\nbundle="b"\ntoken_file="t"\n')
    with pytest.raises(UsageError, match="names a file that is not there"):
        Client.from_profile("a", passphrase=WORDS, config=path)


def test_version_is_shown() -> None:
    assert he_infer("--version").strip() == f"he-infer {__version__}"


def test_profile_replaces_four_options_and_doctor_passes(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "toy.hebundle")
    with LocalServer([bundle], tmp_path / "data", options=["--workers", "1"]) as server:
        token = tmp_path / "cloud.token"
        token.touch(mode=0o600)
        token.write_text(server.token)
        config = write_config(
            tmp_path,
            f'[profiles.toy]\nurl = "{server.url}"\nbundle = "toy.hebundle"\n'
            'key = "my.key"\ntoken_file = "cloud.token"\n',
        )
        given = {"HE_INFER_CONFIG": str(config), "HE_INFER_PASSPHRASE": WORDS, "COLUMNS": "200"}
        he_infer("--profile", "toy", "keys", "new", tmp_path / "my.key", **given)
        out = he_infer("--profile", "toy", "doctor", **given)
        assert "0 failed" in out
        for check in ("clock", "server's signing key", "token", "model", "registered keys"):
            assert check in out
        assert "usable" in he_infer("keys", "list", HE_INFER_PROFILE="toy", **given)
        with Client.from_profile("toy", passphrase=WORDS, config=config) as client:
            assert client.served.name == "Toy Chest"
            key_set = client.keys.key_set
        he_infer("--profile", "toy", "keys", "forget", key_set, **given)
        token.chmod(0o644)
        out = he_infer("--profile", "toy", "doctor", status=None, **given)
        assert "chmod 600" in out
    assert "no profile" in he_infer("--profile", "other", "keys", "list", status=1, **given)
