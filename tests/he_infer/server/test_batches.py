"""Batch plans over HTTP: several images a request, a last request that is not full, and the query count."""

from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from he_infer.client.classifier import EncryptedClassifier
from he_infer.client.connection.session import Session
from he_infer.client.keys.secret_key import SecretKey
from he_infer.head.layers import Head, Linear, Polynomial
from he_infer.local_server import LocalServer


def _head(bundle: Path) -> Head:
    held = load_file(bundle)
    first, last = (Linear(held[f"head.{i}.weight"], held[f"head.{i}.bias"]) for i in (0, 2))
    return Head((first, Polynomial((0.0, 0.0, 1.0)), last))


def test_a_batch_plan_serves_every_image(bundle: Path, tmp_path: Path) -> None:
    settings = tmp_path / "server.toml"
    settings.write_text("batches = [1, 6]\n", encoding="utf-8")
    options = ["--workers", "1", "--config", str(settings)]
    x = np.random.default_rng(8).uniform(-1, 1, (9, 32))
    with (
        LocalServer([bundle], tmp_path / "data", options=options) as server,
        Session(server.url, server.token) as session,
    ):
        model = session.models()[0]
        assert [plan.batch for plan in model.plans] == [1, 6]
        plan = model.plan_for(len(x))
        classifier = EncryptedClassifier(session, model, plan, SecretKey.generate(plan.parameters))
        classifier.register()
        scores = classifier.scores(x)
    assert [request.images for request in scores.requests] == [6, 3]
    assert np.abs(scores.rounded - _head(bundle).evaluate(x)).max() <= 2 * plan.precision
