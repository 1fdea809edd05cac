"""Numbers of a token that no database or calendar holds are refused; one that was stored does not spoil the list."""

import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from he_infer.cli import app
from he_infer.commands.server.state_options import operated
from he_infer.server.tokens import new_token, parse_scopes


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--days", "1e24"),
        ("--days", "inf"),
        ("--days", "nan"),
        ("--storage-quota", str(1 << 63)),
        ("--daily-queries", str(1 << 63)),
        ("--total-queries", str(10**30)),
        ("--requests-per-minute", str(1 << 63)),
    ],
)
@pytest.mark.parametrize("command", [("tokens", "add"), ("clients", "limit")])
def test_number_out_of_range_is_refused(command: tuple[str, str], option: str, value: str, tmp_path: Path) -> None:
    data = tmp_path / "srv"
    done = CliRunner().invoke(app, [*command, "St. Mary", option, value, "--data-dir", str(data)])
    assert done.exit_code == 2
    assert not data.exists()


def test_expiry_beyond_the_calendar_does_not_spoil_the_list(tmp_path: Path) -> None:
    with operated(tmp_path / "srv", None) as (metadata, _):
        for name, expires in (("far", 1e30), ("near", time.time() + 1000)):
            metadata.tokens.add(name, new_token(), parse_scopes(("store",)), expires=expires)
    done = CliRunner().invoke(app, ["tokens", "list", "--data-dir", str(tmp_path / "srv")], env={"COLUMNS": "200"})
    assert (done.exit_code, done.exception) == (0, None)
    assert "in the far future" in done.output
    assert "near" in done.output
