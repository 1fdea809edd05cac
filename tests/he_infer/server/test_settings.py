"""Settings: their order of precedence, and one clear line for each mistake."""

from pathlib import Path

import pytest

from he_infer.errors import UsageError
from he_infer.server.settings import load_settings

BUNDLES = (Path("a.hebundle"),)


def test_defaults_bind_to_loopback() -> None:
    settings = load_settings(bundles=BUNDLES)
    assert settings.host == "127.0.0.1"
    assert settings.record_dir is None
    assert settings.workers >= 1


def test_command_line_overrides_environment_and_environment_overrides_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "server.toml"
    config.write_text('bundles = ["b.hebundle"]\nport = 1\nqueue = 7\nworkers = 3\n')
    monkeypatch.setenv("HE_INFER_SERVER_PORT", "2")
    monkeypatch.setenv("HE_INFER_SERVER_QUEUE", "8")
    settings = load_settings(config, port=3, queue=None)
    assert (settings.port, settings.queue, settings.workers) == (3, 8, 3)
    assert settings.bundles == (Path("b.hebundle"),)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.5", "hospital.example"])
def test_plain_http_beyond_loopback_is_refused_unless_it_is_asked_for(host: str) -> None:
    with pytest.raises(UsageError, match="insecure-http"):
        load_settings(bundles=BUNDLES, host=host)
    assert load_settings(bundles=BUNDLES, host=host, insecure_http=True).host == host
    tls = {"tls_cert": Path("c.pem"), "tls_key": Path("k.pem")}
    assert load_settings(bundles=BUNDLES, host=host, **tls).host == host


@pytest.mark.parametrize("host", ["127.0.0.1", "127.5.0.1", "::1", "localhost"])
def test_plain_http_on_loopback_is_served(host: str) -> None:
    assert load_settings(bundles=BUNDLES, host=host).host == host


def test_settings_file_with_byte_order_mark_is_read(tmp_path: Path) -> None:
    config = tmp_path / "server.toml"
    config.write_bytes(b'\xef\xbb\xbfbundles = ["b"]\n')
    assert load_settings(config).bundles == (Path("b"),)


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        ({"port": 70000}, "port"),
        ({"workers": 0}, "workers"),
        ({"batches": (0,)}, "batches"),
        ({"batches": (2, 2)}, "batches"),
        ({"precision": 0.0}, "precision"),
        ({"precision": float("inf")}, "precision"),
        ({"clock_window": float("inf")}, "clock_window"),
        ({"read_seconds": float("nan")}, "read_seconds"),
        ({"tls_cert": Path("c.pem")}, "tls_cert and tls_key"),
        ({"max_request": 1 << 40}, "bodies_in_memory"),
        ({"trusted_proxies": ("proxy.example",)}, "trusted_proxies"),
        ({"colour": "red"}, "colour"),
        ({"bundles": ()}, "bundles"),
    ],
)
def test_a_wrong_setting_is_named(overrides: dict[str, object], named: str) -> None:
    with pytest.raises(UsageError, match=named):
        load_settings(**{"bundles": BUNDLES, **overrides})


@pytest.mark.parametrize("content", [b"\xff\xfe not toml", b"a = " + b"[" * 5000])
def test_file_that_is_not_toml_is_named(content: bytes, tmp_path: Path) -> None:
    config = tmp_path / "server.toml"
    config.write_bytes(content)
    with pytest.raises(UsageError, match=r"server\.toml"):
        load_settings(config, bundles=BUNDLES)


def test_an_unknown_key_in_the_file_is_named(tmp_path: Path) -> None:
    config = tmp_path / "server.toml"
    config.write_text('bundles = ["b"]\nprot = 1\n')
    with pytest.raises(UsageError, match="prot"):
        load_settings(config)
