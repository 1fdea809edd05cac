"""Batch plans over HTTP: several images a request, and a last request that is not full."""

from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from he_infer.client.connection.session import Session
from he_infer.head.layers import Head, Linear, Polynomial
from he_infer.local_server import LocalServer
from tests.he_infer.server.support.kit import Client


def _head(bundle: Path) -> Head:
    held = load_file(bundle)
    first, last = (Linear(held[f"head.{i}.weight"], held[f"head.{i}.bias"]) for i in (0, 2))
    return Head((first, Polynomial((0.0, 0.0, 1.0)), last))


def test_a_batch_plan_serves_every_image(bundle: Path, tmp_path: Path) -> None:
    settings = tmp_path / "server.toml"
    settings.write_text("batches = [6]\n", encoding="utf-8")
    options = ["--workers", "1", "--config", str(settings)]
    x = np.random.default_rng(8).uniform(-1, 1, (9, 32))
    with (
        LocalServer([bundle], tmp_path / "data", options=options) as server,
        Session(server.url, server.token) as session,
    ):
        client = Client(server, session, server.token)
        assert client.plan.batch == 6
        scores = np.concatenate([client.scores(x[:6]), client.scores(x[6:])])
    assert np.abs(scores - _head(bundle).evaluate(x)).max() <= 2 * client.plan.precision
