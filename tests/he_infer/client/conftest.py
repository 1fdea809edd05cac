"""Fixture: one client and one server for all tests that use the public client."""

from collections.abc import Iterator

import pytest

from tests.he_infer.client.scene import Scene, make_scene, share_model


@pytest.fixture(scope="session")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with make_scene(tmp_path_factory.mktemp("scene"), share_model(tmp_path_factory)) as made:
        yield made
