"""Requests without a token, and with tokens that nobody has, from several connections without end."""

import secrets
import time

import pytest

from tests.attacks.kit import FEATURES, Scene, knocking

SECONDS = 4.0


def draw_token() -> dict[str, str]:
    """Headers with a token that nobody has."""
    return {"Authorization": f"Bearer hei_{secrets.token_hex(8)}_{secrets.token_urlsafe(32)}"}


@pytest.mark.parametrize(
    ("path", "tokens"),
    [("/readyz", False), ("/healthz", False), ("/v1/info", False), ("/openapi.json", False), ("/v1/models", True)],
)
def test_strangers_are_answered_at_the_allowed_rate_and_the_honest_client_is_served(
    scene: Scene, path: str, tokens: bool
) -> None:
    began = time.monotonic()
    with knocking(scene.server.url + path, draw_token if tokens else dict, connections=4) as statuses:
        answered = 0
        while time.monotonic() < began + SECONDS:
            assert scene.honest.scores(FEATURES).shape == (1, 3)
            answered += 1
    took = time.monotonic() - began
    assert set(statuses) <= {200, 401}
    assert answered > 0
    # 600 malformed messages a minute and a tenth of it at once, a stranger's request being half of one.
    assert len(statuses) <= 2 * (60 + 10 * took) + 8
    scene.no_defect()
