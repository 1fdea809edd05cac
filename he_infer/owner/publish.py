"""Publishing: splits a whole bundle into a client's part and a server's part, tries the plans, and signs both parts.

It runs at the model's owner, who holds both parts. The server's process never loads this module.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray

from he_infer.ckks.engines.choice import EngineChoice
from he_infer.ckks.evaluate import Evaluator
from he_infer.ckks.packing import pack
from he_infer.ckks.planning.order import Digits
from he_infer.ckks.planning.plan import Plan
from he_infer.client.keys.secret_key import SecretKey
from he_infer.client.verify.scores import open_scores
from he_infer.errors import HeadError, NotThisFormat, UsageError
from he_infer.head.bundle_file import CLIENT, HEAD_PREFIX, SERVER, WHOLE, BundleFile
from he_infer.head.layers import Head
from he_infer.head.score_bounds import bound_scores
from he_infer.publication.parts import ANSWERS, MAX_QUESTIONS, QUESTIONS, hash_tensors, sign
from he_infer.publication.plans import PRECISION, choose_plans

QUESTION_COUNT = 8
"""Number of canary questions published by default, the one of zeros included."""
_TYPICAL = 0.25
"""Typical size of a feature, as a share of the input bound, that the planner assumes."""
_TRIES = 8
_GUARD = ("guard.mean", "guard.directions", "guard.variances")
"""Tensors of a bundle that hold the distribution of the training images' features; docs/bundle.md."""
_OWNERS = frozenset({"head", "training"})
"""Members of a whole bundle's description that do not go to the client."""


@dataclass(frozen=True)
class Published:
    """Both signed parts, and the result of the plans' trial."""

    client: BundleFile
    server: BundleFile
    plans: tuple[Plan, ...]
    trial_errors: tuple[float, ...]
    """Largest score error of each plan for the canary questions under encryption."""

    @property
    def publisher(self) -> str:
        """The owner's Ed25519 public key, hex, which clients pin."""
        return str(self.client.description["publication"]["publisher"])


def publish(
    whole: BundleFile,
    key: Ed25519PrivateKey,
    *,
    batches: Sequence[int] | None = None,
    precision: float = PRECISION,
    questions: int = QUESTION_COUNT,
    engine: EngineChoice | None = None,
    note: Callable[[str], None] = lambda _line: None,
    rng: np.random.Generator | None = None,
) -> Published:
    """Publish a model in two parts.

    Every plan answers the canary questions under encryption before it is published. A plan that cannot compute the
    head's scores is therefore never published.

    Args:
        whole: the owner's whole bundle.
        key: the owner's publishing key.
        batches: images a request, one plan each; None: 1, 16, 64 and 256 where they fit.
        precision: largest error of a score that the plans are made for.
        questions: number of canary questions in the client's part, with their answers, 2 to 64.
        engine: the native engine, where all servers of the model have it: plans for its centred digits are published
            for the batch sizes that they are faster for. None: plans that every engine computes.
        note: called with one line for each notice to the owner.
        rng: draws the questions; seeded by the system by default.

    Raises:
        NotThisFormat: the bundle is not a whole one.
        HeadError: a plan's encrypted answers differ from the head's scores.
        ParameterError, UsageError: no plan meets the arguments, or the number of questions is out of range.
    """
    if whole.part != WHOLE:
        raise NotThisFormat(f"It is the {whole.part} part of a model; only a whole bundle can be published.")
    if not 2 <= questions <= MAX_QUESTIONS:
        raise UsageError(f"{questions} canary questions were asked for; expected 2 to {MAX_QUESTIONS}.")
    head = whole.head
    plans = choose_plans(
        head,
        batches=batches,
        policy=whole.policy,
        precision=precision,
        input_bound=whole.input_bound,
        digits=Digits.POSITIVE if engine is None or engine.code is None else Digits.CENTRED,
        note=note,
    )
    trials = [_Trial(plan, head, engine) for plan in plans]
    asked, errors = _draw_questions(whole, trials, questions, rng or np.random.default_rng())
    digits = max(0, int(np.ceil(-np.log10(precision)))) + 1
    shared = {name: whole.description[name] for name in ("format", "version", "name", "classes", "policy")}
    shared |= {"input_bound": whole.input_bound, "plans": [plan.to_json() for plan in plans]}
    weights = {name: _make_contiguous(tensor) for name, tensor in whole.tensors.items() if name.startswith(HEAD_PREFIX)}
    server = BundleFile(
        {**shared, "part": SERVER, "head": whole.description["head"], "tensors": hash_tensors(weights)}, weights
    )
    others = {
        name: _make_contiguous(tensor) for name, tensor in whole.tensors.items() if not name.startswith(HEAD_PREFIX)
    }
    others |= {QUESTIONS: asked, ANSWERS: np.round(head.evaluate(asked), digits)}
    described = {name: value for name, value in whole.description.items() if name not in _OWNERS}
    bounds = bound_scores(head, whole.input_bound).tolist()
    client = BundleFile(
        {**described, **shared, "part": CLIENT, "score_bounds": bounds, "tensors": hash_tensors(others)}, others
    )
    signed_client, signed_server = sign(client, server, key)
    return Published(signed_client, signed_server, plans, errors)


def _draw_questions(
    whole: BundleFile, trials: "Sequence[_Trial]", count: int, rng: np.random.Generator
) -> tuple[NDArray[np.float64], tuple[float, ...]]:
    """Draw questions (count, width) that every plan answers within the tolerance; also return the largest errors.

    The first question is all zeros. The others follow the distribution of the training images' features if the bundle
    has it (its guard); otherwise they are generic, see `_draw_features`.
    """
    bound, size, plans = whole.input_bound, 1.0, [trial.plan for trial in trials]
    for _ in range(_TRIES):
        asked = np.clip(size * _draw_features(whole, count, rng), -bound, bound)
        asked[0] = 0.0
        errors = tuple(trial.largest_error(asked) for trial in trials)
        if all(error <= plan.precision for error, plan in zip(errors, plans, strict=True)):
            return asked, errors
        size /= 2
    worst = max(range(len(plans)), key=lambda index: errors[index] / plans[index].precision)
    raise HeadError(
        f"The plan for {plans[worst].batch} images a request gives scores that are off by {errors[worst]:.2g} under "
        f"encryption; {plans[worst].precision:.2g} is allowed. The head's weights are too small or too "
        "large for it: scale them, train again with weight decay, or ask for less precision."
    )


def _draw_features(whole: BundleFile, count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw features (count, width) from the guard's normal distribution, or of the size that the planner assumes.

    Without a guard they are smaller if the hidden layer's measured inputs are smaller.
    """
    head = whole.head
    if all(name in whole.tensors for name in _GUARD):
        mean, directions, variances = (np.asarray(whole.tensors[name], dtype=np.float64) for name in _GUARD)
        along = rng.normal(size=(count, len(directions))) * np.sqrt(variances[:-1])
        beside = rng.normal(0.0, np.sqrt(variances[-1]), (count, head.width))
        return np.asarray(mean + along @ directions + beside)
    size = _TYPICAL * whole.input_bound
    measured = head.sizes[0] if head.sizes else None
    if measured is not None:
        sample = rng.normal(0.0, size, (64, head.width)) @ head.linear[0].weight.T
        usual, drawn = float(np.sqrt(np.mean(measured**2))), float(np.sqrt(np.mean(sample**2)))
        size *= min(1.0, usual / max(drawn, 1e-12))
    return rng.normal(0.0, size, (count, head.width))


class _Trial:
    """A plan with its own temporary keys."""

    def __init__(self, plan: Plan, head: Head, engine: EngineChoice | None) -> None:
        self.plan = plan
        self._head = head
        self._secret = SecretKey.generate(plan.parameters)
        self._evaluator = Evaluator(plan, head, engine)
        parts = self._secret.evaluation_keys(plan)
        self._keys = self._evaluator.load_keys(parts) if plan.needs_keys else None

    def largest_error(self, questions: NDArray[np.float64]) -> float:
        largest = 0.0
        for start in range(0, len(questions), self.plan.batch):
            block = questions[start : start + self.plan.batch]
            sent = self._secret.encrypt(pack(self.plan, block), self.plan.input_scale)
            answer = self._evaluator.evaluate(sent, self._keys)
            scores = open_scores(self._secret, self.plan, answer, len(block))
            largest = max(largest, float(np.abs(scores - self._head.evaluate(block)).max()))
        return largest


def _make_contiguous(tensor: NDArray[np.generic]) -> NDArray[np.generic]:
    """Return the array as the file holds it: contiguous, and with at least one dimension."""
    return np.ascontiguousarray(tensor)
