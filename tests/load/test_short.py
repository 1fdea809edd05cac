"""Short form of the load campaign: overload is refused with a Retry-After, and restarts lose no request."""

from pathlib import Path

import pytest

from he_infer.client.connection.session import Session
from he_infer.local_server import LocalServer
from tests.he_infer.server.support.kit import write_bundle
from tests.load import campaign, curves


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("load") / "toy.hebundle")


def test_overload_is_refused_with_retry_after(bundle: Path, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HE_INFER_SERVER_QUEUE", "3")
        with (
            LocalServer([bundle], tmp_path / "data", options=campaign.OPTIONS) as server,
            Session(server.url, server.token) as session,
        ):
            tenant = campaign.tenant(server, session, server.token, tmp_path)
            measured = campaign.curve(server, tenant, [0.5, 4.0], 1.5, 1, lambda _: None)
    over = max(measured["points"], key=lambda point: point["factor"])
    assert over["answered"] > 0
    assert over["refused 429"] > 0
    assert all(point["other"] == point["without Retry-After"] == 0 for point in measured["points"])
    assert set(campaign.ratios(measured)) == {"0.5x", "4x"}
    curves.draw(measured, tmp_path / "load.png")
    assert (tmp_path / "load.png").stat().st_size > 10_000


def test_rolling_restarts_lose_no_request(bundle: Path, tmp_path: Path) -> None:
    rolled = campaign.rolling(bundle, tmp_path / "data", 1)
    assert rolled["lost"] == 0, rolled["first losses"]
    assert rolled["answered"] > 0
    assert rolled["servers that ended with 0"] == 2
