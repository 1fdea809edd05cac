"""A trained model behind a real server process, and the public client, for 6c, 6d and 6e."""

import secrets
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray

from experiments.accuracy.agreement import Agreement, compare_scores
from experiments.errors import ExperimentError
from he_infer.ckks.planning.plan import Plan
from he_infer.client.client import Client
from he_infer.client.images.array import ArrayImage
from he_infer.client.key_making import make_key_file
from he_infer.client.release.rounding import to_probabilities
from he_infer.client.results import RunReport
from he_infer.local_server import LocalServer
from he_infer.owner.publish import publish
from models.bundle import Bundle
from models.card import decide


@dataclass(frozen=True)
class Classified:
    """Images classified through the service, and the run's costs."""

    probabilities: NDArray[np.float64]
    """(n, classes), as the client releases them."""
    labels: NDArray[np.int64]
    """(n,) classes that the client names: by the model card's operating point, if it states one."""
    report: RunReport


@dataclass(frozen=True)
class RunningService:
    """A client of a server that offers one model."""

    client: Client
    plan: Plan
    key_bytes: int
    """Bytes of the registered evaluation keys."""

    def classify(self, images: NDArray[Any], step: Callable[[int], None]) -> Classified:
        """Classify images (n, H, W[, 3]) one after another; `step` is called with the number of images done.

        Raises:
            ExperimentError: an image was not classified.
        """
        given = [ArrayImage(f"image {number}", pixels) for number, pixels in enumerate(images)]
        run = self.client.start(given, lambda done, _: step(done))
        results = list(run)
        unsent = next((result.refusal for result in results if not result.classified), None)
        if unsent is not None:
            raise ExperimentError(f"An image was not classified: {unsent}")
        classes = self.client.model.classes
        return Classified(
            np.array([[result.probabilities[name] for name in classes] for result in results]),
            np.array([classes.index(str(result.label)) for result in results], dtype=np.int64),
            run.report,
        )

    def decide(self, scores: NDArray[np.float64]) -> NDArray[np.int64]:
        """The classes (n,) that the client would name for scores (n, classes) in clear."""
        probabilities = to_probabilities(scores, self.plan.precision)
        return decide(self.client.model.feature_model.card, self.client.model.classes, probabilities)


@contextmanager
def run_service(bundle: Bundle) -> Iterator[RunningService]:
    """Publish a model, serve its server's part on a free loopback port, register fresh keys, and stop at the end.

    A request holds one image and follows the answer to the one before, so that the times are those of an image.
    """
    with tempfile.TemporaryDirectory(prefix="he-infer-") as name:
        published = publish(bundle.to_file(), Ed25519PrivateKey.generate(), batches=(1,))
        part, served = (Path(name) / f"model.{kind}.hebundle" for kind in ("client", "server"))
        published.client.save(part)
        published.server.save(served)
        key, passphrase = Path(name) / "hospital.key", secrets.token_urlsafe(16)
        with LocalServer([served], Path(name) / "data") as local:
            made = make_key_file(key, passphrase, server_url=local.url, model=part, token=local.token)
            with Client(
                local.url,
                model=part,
                key=key,
                passphrase=passphrase,
                token=local.token,
                canaries=0,
                even_if_unlike=True,
                in_flight=1,
            ) as client:
                yield RunningService(client, client.served.plans[0], made.registered_bytes)


def compute_figures(
    labels: NDArray[np.int64], clear: NDArray[np.float64], found: Classified, service: RunningService
) -> dict[str, Any]:
    """Compute accuracy and agreement of a set classified through a service, and the mean costs of an image.

    Args:
        labels: (n,) true classes.
        clear: (n, classes) scores in clear; they are turned into probabilities as the client does.
        found: of the same images.
        service: has the plan and the keys.
    """
    agreement: Agreement = compare_scores(labels, to_probabilities(clear, service.plan.precision), found.probabilities)
    report, named = found.report, service.decide(clear)
    right, found_right = named == labels, found.labels == labels
    named_alike = replace(
        agreement,
        only_clear_right=int((right & ~found_right).sum()),
        only_encrypted_right=int((found_right & ~right).sum()),
    )

    def mean(stage: str) -> float:
        return 1e3 * report.stages[stage] / agreement.n

    return {
        "images": agreement.n,
        "clear_accuracy": float(right.mean()),
        "encrypted_accuracy": float(found_right.mean()),
        "label_agreement": float((named == found.labels).mean()),
        "most_probable_clear_accuracy": agreement.clear_accuracy,
        "most_probable_encrypted_accuracy": agreement.encrypted_accuracy,
        "labels_changed_beyond_error": agreement.flips_beyond_error,
        "mcnemar_p": named_alike.mcnemar_p,
        "largest_probability_difference": round(agreement.max_abs_error, 6),
        "receipts_verified": len(report.receipts),
        "encrypt_ms": mean("encryption"),
        "round_trip_ms": mean("server"),
        "server_ms": 1e3 * float(np.mean(report.server_seconds)),
        "decrypt_ms": mean("decryption"),
        "bytes_up": report.bytes_up // report.requests,
        "bytes_down": report.bytes_down // report.requests,
        "evaluation_key_bytes": service.key_bytes,
    }


def describe_figures(figures: dict[str, Any]) -> str:
    """The figures of a classification in one line."""
    return (
        f"{figures['images']} images: accuracy {figures['clear_accuracy']:.4f} in clear, "
        f"{figures['encrypted_accuracy']:.4f} encrypted (of the most probable class "
        f"{figures['most_probable_clear_accuracy']:.4f} and {figures['most_probable_encrypted_accuracy']:.4f}); "
        f"{figures['label_agreement']:.2%} of the labels alike, most probable classes changed beyond the error: "
        f"{figures['labels_changed_beyond_error']}; largest difference of a probability "
        f"{figures['largest_probability_difference']:g}."
    )
