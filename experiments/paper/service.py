"""A trained model behind a real server process, and its client, for 6c, 6d and 6e."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray

from experiments.accuracy.agreement import Agreement, compare_scores
from he_infer.ckks.planning.plan import Plan
from he_infer.client.classifier import EncryptedClassifier, Scores
from he_infer.client.connection.session import Session
from he_infer.client.keys.secret_key import SecretKey
from he_infer.client.model import ClientModel
from he_infer.local_server import LocalServer
from he_infer.owner.publish import publish
from models.bundle import Bundle


@dataclass(frozen=True)
class RunningService:
    """An open session with a server that offers one model."""

    session: Session
    plan: Plan
    key_bytes: int
    """Bytes of the registered evaluation keys."""
    classify: Callable[[NDArray[np.floating], Callable[[int], None]], Scores]
    """Features (n, width) and a progress callback into decrypted scores, request by request."""


@contextmanager
def run_service(bundle: Bundle) -> Iterator[RunningService]:
    """Publish a model, serve its server's part on a free loopback port, register fresh keys, and stop at the end."""
    with tempfile.TemporaryDirectory(prefix="he-infer-") as name:
        published = publish(bundle.to_file(), Ed25519PrivateKey.generate(), batches=(1,))
        part, served = (Path(name) / f"model.{kind}.hebundle" for kind in ("client", "server"))
        published.client.save(part)
        published.server.save(served)
        with LocalServer([served], Path(name) / "data") as local, Session(local.url, local.token) as session:
            model = ClientModel.load(part).expect(session.models())
            plan = model.plans[0]
            classifier = EncryptedClassifier(session, model, plan, SecretKey.generate(plan.parameters))
            key_bytes = classifier.register()

            def classify(features: NDArray[np.floating], step: Callable[[int], None]) -> Scores:
                return classifier.scores(features, lambda done, _: step(done))

            yield RunningService(session, plan, key_bytes, classify)


def compute_figures(
    labels: NDArray[np.int64], clear: NDArray[np.float64], scores: Scores, key_bytes: int
) -> dict[str, Any]:
    """Compute accuracy and agreement of a set classified through a service, and the median costs of an image."""
    # Scores without rounding: this is a measurement, and its key is deleted at the end.
    found: Agreement = compare_scores(labels, clear, clear + scores.errors(clear))
    requests = scores.requests

    def median(name: str) -> float:
        return float(np.median([getattr(request, name) / request.images for request in requests]))

    return {
        "images": found.n,
        "clear_accuracy": found.clear_accuracy,
        "encrypted_accuracy": found.encrypted_accuracy,
        "label_agreement": found.label_agreement,
        "labels_changed_beyond_error": found.flips_beyond_error,
        "mcnemar_p": found.mcnemar_p,
        "largest_score_error": found.max_abs_error,
        "receipts_verified": len(scores.receipts),
        "encrypt_ms": 1e3 * median("encrypt_seconds"),
        "round_trip_ms": 1e3 * median("round_trip_seconds"),
        "server_ms": 1e3 * median("server_seconds"),
        "decrypt_ms": 1e3 * median("decrypt_seconds"),
        "bytes_up": int(median("bytes_up")),
        "bytes_down": int(median("bytes_down")),
        "evaluation_key_bytes": key_bytes,
    }


def describe_figures(figures: dict[str, Any]) -> str:
    """The figures of a classification in one line."""
    return (
        f"{figures['images']} images: accuracy {figures['clear_accuracy']:.4f} in clear, "
        f"{figures['encrypted_accuracy']:.4f} encrypted; {figures['label_agreement']:.2%} of the labels alike, "
        f"{figures['labels_changed_beyond_error']} changed beyond the error; largest score error "
        f"{figures['largest_score_error']:.1e}."
    )
