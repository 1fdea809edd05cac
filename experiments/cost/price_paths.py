"""Paths to a head's scores: in clear, encrypted here, TenSEAL's own vectors, Concrete ML elsewhere."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.cost import tenseal_peer
from experiments.cost.one_by_one import PathReply, TimedScores, time_one_by_one
from experiments.cost.other_interpreter import PeerProgram
from experiments.encrypted import find_engine
from he_infer.ckks.evaluate import Evaluator
from he_infer.ckks.packing import pack, unpack
from he_infer.ckks.planning.search import make_plan
from he_infer.client.keys.secret_key import SecretKey
from he_infer.head.layers import Head
from models.datasets import Split
from models.metrics import predictions

Step = Callable[[int], None]
Features = NDArray[np.floating]
Scores = Callable[[NDArray[Any]], NDArray[np.float64]]
CONCRETE = "Concrete ML"
_CONCRETE_BITS = 8
_CONCRETE_PROGRAM = PeerProgram(CONCRETE, "peers.concrete_peer", "concrete-ml")


@dataclass(frozen=True)
class PriceRow:
    """Accuracy and cost of a head on a path, for one image."""

    head: str
    path: str
    images: int
    accuracy: float
    label_agreement: float
    """Share of the images with the same label as the same head in clear."""
    largest_error: float | None
    """Largest error of a score against the clear one; None where the path has another model."""
    wall_ms: float
    """Median of an image, from features to scores: both sides, without a network."""
    cpu_ms: float
    """Mean of an image, all threads."""
    bytes_up: int
    bytes_down: int
    key_bytes: int
    """Sent once."""
    parameters: str
    ratio: float | None = None
    """Its wall time as a share of TenSEAL's for the same head."""


def classify_in_clear(name: str, scores: Scores, features: Features, labels: NDArray[np.int64]) -> PriceRow:
    """The head in clear, one image at a time.

    Args:
        name: the head's.
        scores: features (n, width) -> scores (n, classes).
        features: (n, width).
        labels: (n,).
    """
    timed = time_one_by_one(features, lambda row: PathReply(scores(row[None])[0]))
    right = float((predictions(timed.scores) == labels).mean())
    return PriceRow(
        name,
        "in clear",
        len(timed.scores),
        right,
        1.0,
        0.0,
        float(np.median(timed.wall_ms)),
        timed.cpu_ms,
        0,
        0,
        0,
        "float64",
    )


def classify_encrypted(
    name: str, head: Head, features: Features, labels: NDArray[np.int64], *, policy: str, bound: float, step: Step
) -> PriceRow:
    """Under this project's plan for one image a request; both sides in this process, with bytes in between.

    The engine is the native one, or SEAL where that is missing.

    Raises:
        HeadError, ParameterError: the head cannot be computed under encryption.
    """
    model = head
    plan = make_plan(model, policy=policy, input_bound=bound)
    secret = SecretKey.generate(plan.parameters)
    evaluator = Evaluator(plan, model, find_engine())
    parts = secret.evaluation_keys(plan)
    keys = evaluator.load_keys(parts)

    def ask(row: Features) -> PathReply:
        sent = secret.encrypt(pack(plan, row[None]), plan.input_scale)
        answer = evaluator.evaluate(sent, keys)
        return PathReply(unpack(plan, secret.open_answer(plan, answer), 1)[0], sent, answer)

    timed = time_one_by_one(np.asarray(features, dtype=np.float64), ask, step)
    size = sum(len(part) for part in parts.values())
    return _judged(name, f"encrypted here, {policy}", head, features, labels, timed, size, str(plan.parameters))


def classify_with_tenseal(name: str, head: Head, features: Features, labels: NDArray[np.int64], step: Step) -> PriceRow:
    """TenSEAL's vectors.

    Raises:
        ExperimentError: a head that its path is not written for.
    """
    found = tenseal_peer.run_tenseal(head, features, step)
    return _judged(name, "TenSEAL's vectors", head, features, labels, found.timed, found.key_bytes, found.parameters)


def classify_with_concrete(
    python: Path, train: Features, split: Split, features: Features, labels: NDArray[np.int64]
) -> PriceRow:
    """Concrete ML's own logistic regression, fitted and run by an interpreter that has it.

    Args:
        python: that interpreter.
        train: features of the training split.
        split: the training split, for its labels.
        features: (n, width) to classify.
        labels: (n,).

    Raises:
        ExperimentError: the interpreter has no Concrete ML, or it failed; the message has its last words.
    """
    arrays = {"train": train, "labels": split.labels, "test": features}
    found = _CONCRETE_PROGRAM.run(python, **arrays, bits=_CONCRETE_BITS)
    said, clear = (np.array(found[key]).argmax(axis=1) for key in ("answers", "clear"))
    return PriceRow(
        "linear",
        CONCRETE,
        len(said),
        float((said == labels).mean()),
        float((said == clear).mean()),
        None,
        float(found["wall_ms"]),
        float(found["cpu_ms"]),
        int(found["bytes_up"]),
        int(found["bytes_down"]),
        int(found["key_bytes"]),
        f"{_CONCRETE_BITS}-bit weights and features",
    )


def _judged(
    name: str,
    path: str,
    head: Head,
    features: Features,
    labels: NDArray[np.int64],
    timed: TimedScores,
    key_bytes: int,
    parameters: str,
) -> PriceRow:
    """A path's row: its scores beside the head's in clear, with times and bytes."""
    clear = head.evaluate(features)
    said = predictions(timed.scores)
    return PriceRow(
        name,
        path,
        len(timed.scores),
        float((said == labels).mean()),
        float((said == predictions(clear)).mean()),
        float(np.abs(timed.scores - clear).max()),
        float(np.median(timed.wall_ms)),
        timed.cpu_ms,
        timed.bytes_up,
        timed.bytes_down,
        key_bytes,
        parameters,
    )
