"""A head under real CKKS, in this process: both sides of the wire, with bytes in between, but without a network.

It is for experiments that need every score of a whole test set. The cost of a server is measured elsewhere.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from he_infer.ckks.engines.choice import EngineChoice
from he_infer.ckks.engines.native.code_cache import default_folder
from he_infer.ckks.engines.native.support import find_obstacle
from he_infer.ckks.evaluate import Evaluator
from he_infer.ckks.packing import pack, unpack
from he_infer.ckks.planning.plan import Plan
from he_infer.ckks.planning.search import make_plan
from he_infer.client.keys.secret_key import SecretKey
from he_infer.head.layers import Head
from models.bundle import Bundle

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class EncryptedRun:
    """Decrypted scores of a set, with times and bytes."""

    scores: NDArray[np.float64]
    """(n, classes), as decrypted."""
    plan: Plan
    evaluate_ms: NDArray[np.float64]
    """Milliseconds of each request for parsing, computing and saving: the server's part."""
    bytes_up: int
    """Bytes of one request."""
    bytes_down: int
    evaluation_key_bytes: int
    engine: str
    """`native` or `seal`."""


def evaluate_bundle(bundle: Bundle, features: NDArray[np.floating], progress: Progress | None = None) -> EncryptedRun:
    """Encrypt features (n, width), evaluate the bundle's head on ciphertexts, decrypt the scores.

    Fresh keys are made; the evaluating half sees only what a server would: evaluation keys and ciphertexts.

    Raises:
        HeadError, ParameterError: the head cannot be computed under encryption.
    """
    head = bundle.head
    return evaluate_plan(
        head, plan_head(head, policy=bundle.policy, input_bound=bundle.input_bound), features, progress
    )


def plan_head(head: Head, *, policy: str, input_bound: float, precision: float = 1e-3, batch: int = 1) -> Plan:
    """The plan of a head, for so many images a request.

    Raises:
        HeadError, ParameterError: the head cannot be computed under encryption.
    """
    return make_plan(head, batch=batch, policy=policy, input_bound=input_bound, precision=precision)


def evaluate_plan(
    head: Head, plan: Plan, features: NDArray[np.floating], progress: Progress | None = None
) -> EncryptedRun:
    """Encrypt features, evaluate a head by a plan, and decrypt the scores, as `evaluate_bundle` does.

    The engine is the one that a server takes here: the native one, or SEAL where that is missing.

    Raises:
        ParameterError: the plan is another head's.
    """
    secret = SecretKey.generate(plan.parameters)
    evaluator = Evaluator(plan, head, find_engine())
    key_parts = secret.evaluation_keys(plan)
    keys = evaluator.load_keys(key_parts)
    scores, spent = [], []
    up = down = 0
    for start in range(0, len(features), plan.batch):
        block = np.asarray(features[start : start + plan.batch], dtype=np.float64)
        sent = secret.encrypt(pack(plan, block), plan.input_scale)
        began = time.perf_counter()
        answer = evaluator.evaluate(sent, keys)
        spent.append(1e3 * (time.perf_counter() - began))
        scores.append(unpack(plan, secret.open_answer(plan, answer), len(block)))
        up, down = sum(map(len, sent)), sum(map(len, answer))
        if progress is not None:
            progress(start + len(block), len(features))
    return EncryptedRun(
        scores=np.concatenate(scores),
        plan=plan,
        evaluate_ms=np.array(spent),
        bytes_up=up,
        bytes_down=down,
        evaluation_key_bytes=sum(len(part) for part in key_parts.values()),
        engine=evaluator.engine_name,
    )


def find_engine() -> EngineChoice:
    """Choose the native engine where this machine has it, else SEAL."""
    return EngineChoice() if find_obstacle() is not None else EngineChoice(default_folder())
