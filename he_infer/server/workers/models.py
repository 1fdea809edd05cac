"""Heads and evaluation keys in a worker process: the only caller of the encrypted computation in the server."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from he_infer.ckks.engines.choice import EngineChoice
from he_infer.ckks.engines.seal import shapes_for
from he_infer.ckks.evaluate import Evaluator
from he_infer.ckks.planning.message_sizes import count_fresh_bytes
from he_infer.ckks.planning.order import Digits
from he_infer.ckks.planning.plan import Plan
from he_infer.ckks.trial import try_plan
from he_infer.errors import (
    EngineError,
    FormatError,
    HeInferError,
    KeyProblem,
    NotThisFormat,
    ParameterError,
    SecretKeyRefused,
    UsageError,
)
from he_infer.head.bundle import HeadBundle
from he_infer.head.bundle_file import CLIENT, HEAD_PREFIX, SERVER, BundleFile
from he_infer.publication.parts import ServerPart
from he_infer.publication.plans import PRECISION, choose_plans
from he_infer.server.workers.key_cache import KeyCache
from he_infer.wire.bodies import ModelInfo, PlanInfo
from he_infer.wire.envelope import MAX_HEADER, PREFIX_BYTES
from he_infer.wire.refusals import Code, Refused

# Exceptions that pybind11 raises for SEAL's std::invalid_argument, std::logic_error and std::out_of_range.
_SEAL_ERRORS = (ValueError, RuntimeError, IndexError)

# Bytes of an envelope beside its parts, and what compression may add to each of them.
_ENVELOPE_BYTES = PREFIX_BYTES + MAX_HEADER
_PART_BYTES = 1024


class NeedsKeys(Exception):
    """The client's evaluation keys are not in this worker's cache."""


@dataclass(frozen=True)
class _Served:
    """A plan of a model, as it is served."""

    bundle: HeadBundle
    plan: Plan


class ModelHost:
    """All models that a worker serves, their encoded weights and a bounded cache of clients' keys.

    A server's part is served with the plans that its owner published, and with no others. The plans of a whole bundle
    follow from the bundle, the batch size and the precision alone: every worker and every restart makes the same.

    Args:
        paths: bundle files: server's parts, or whole bundles.
        batches: images a request, one plan each, of whole bundles; None: 1.
        precision: largest error of a score that plans of whole bundles are made for; None: 0.001.
        key_cache: bytes of memory for evaluation keys.
        engine: evaluation engine; SEAL by default.

    Raises:
        FormatError, OSError: a bundle cannot be read.
        NotAuthentic: a server's part was changed after it was published.
        UsageError: a head has no plan, two bundles are the same model, or a published plan is to be replaced.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        batches: Sequence[int] | None,
        precision: float | None,
        key_cache: int,
        engine: EngineChoice | None = None,
    ) -> None:
        self._engine = engine or EngineChoice()
        self._served: dict[str, _Served] = {}
        self._evaluators: dict[str, Evaluator] = {}
        self._keys = KeyCache(key_cache)
        self._bundles: dict[str, HeadBundle] = {}
        for path in paths:
            bundle, plans = _load(path, batches, precision)
            if bundle.model_id in self._bundles:
                raise UsageError(f"{path}: the model {bundle.model_id} is given twice.")
            self._bundles[bundle.model_id] = bundle
            if self._engine.code is None and any(plan.digits is Digits.CENTRED for plan in plans):
                raise UsageError(
                    f"{path} was published with plans that only the native engine computes, and this server computes "
                    "with SEAL. 'he-infer serve --engine native' says what the native engine lacks here; or have the "
                    "model published with '--engine any'."
                )
            for plan in plans:
                self._served[plan.digest] = _Served(bundle, plan)

    def describe(self) -> list[ModelInfo]:
        """Describe the models to clients: no weights, but everything that packing and unpacking takes."""
        return [
            ModelInfo(
                id=model_id,
                name=bundle.name,
                classes=tuple(bundle.classes),
                policy=bundle.policy,
                head_digest=bundle.head.digest,
                input_bound=bundle.input_bound,
                plans=tuple(
                    PlanInfo(
                        digest=digest,
                        batch=served.plan.batch,
                        needs_keys=served.plan.needs_keys,
                        plan=served.plan.to_json(),
                    )
                    for digest, served in self._served.items()
                    if served.bundle is bundle
                ),
            )
            for model_id, bundle in self._bundles.items()
        ]

    def measure_bodies(self) -> dict[str, tuple[int, int]]:
        """Largest registration and largest request by plan, in bytes; a larger body cannot be valid."""
        bounds = {}
        for digest, served in self._served.items():
            plan, sizes = served.plan, shapes_for(served.plan).sizes.values()
            keys = sum(size + size // 128 + _PART_BYTES for size in sizes)
            request = plan.sources * count_fresh_bytes(plan.parameters.ring_size, plan.parameters.data_bits)
            bounds[digest] = (_ENVELOPE_BYTES + keys, _ENVELOPE_BYTES + request)
        return bounds

    def warm(self) -> None:
        """Encode all weights now, so that no client waits for it.

        Raises:
            ParameterError: a plan's scales do not fit its parameters.
        """
        for digest in self._served:
            self._evaluator(digest)

    def load_keys(self, client: str, plan: str, key_id: str, parts: Mapping[str, bytes]) -> None:
        """Parse a client's evaluation keys and keep them in the cache.

        Raises:
            Refused: `secret_key`, `bad_keys`.
        """
        try:
            keys = self._evaluator(plan).load_keys(parts)
        except SecretKeyRefused as error:
            raise Refused(Code.SECRET_KEY, _line(error)) from error
        except (KeyProblem, FormatError, UsageError, EngineError) as error:
            raise Refused(Code.BAD_KEYS, _line(error)) from error
        except _SEAL_ERRORS as error:
            raise Refused(Code.BAD_KEYS, "The evaluation keys parse, but SEAL cannot use them.") from error
        # Bytes in memory once the seeds are expanded; the compressed size says nothing about them.
        self._keys.add(client, (plan, key_id), keys, shapes_for(self._served[plan].plan).memory)

    def evaluate(self, plan: str, key_id: str | None, parts: Sequence[bytes]) -> tuple[list[bytes], float]:
        """Evaluate the head on ciphertexts.

        Args:
            plan: the plan's digest.
            key_id: which evaluation keys; None where the plan needs none.
            parts: serialized ciphertexts in the order of the plan's packing.

        Returns:
            The serialized ciphertexts of the scores, and the seconds that parsing, computing and saving took.

        Raises:
            NeedsKeys: `load_keys` must come first.
            Refused: `bad_ciphertext`.
        """
        evaluator = self._evaluator(plan)
        keys = None
        if self._served[plan].plan.needs_keys:
            keys = self._keys.find((plan, str(key_id)))
            if keys is None:
                raise NeedsKeys
        started = time.perf_counter()
        try:
            out = evaluator.evaluate(parts, keys)
        except SecretKeyRefused as error:
            raise Refused(Code.SECRET_KEY, _line(error)) from error
        except (FormatError, UsageError, EngineError, KeyProblem) as error:
            raise Refused(Code.BAD_CIPHERTEXT, _line(error)) from error
        except _SEAL_ERRORS as error:
            raise Refused(Code.BAD_CIPHERTEXT, "The ciphertexts parse, but SEAL cannot compute with them.") from error
        return out, time.perf_counter() - started

    def _evaluator(self, plan: str) -> Evaluator:
        served = self._served.get(plan)
        if served is None:
            raise Refused(Code.UNKNOWN_PLAN, "No model of this server has a plan of this digest.")
        if plan not in self._evaluators:
            try:
                self._evaluators[plan] = Evaluator(served.plan, served.bundle.head, self._engine)
            except _SEAL_ERRORS as error:
                raise ParameterError(
                    f"The plan {plan} of {served.bundle.name} cannot be used: its scales or layouts do not fit its "
                    "parameters. Publish the model again."
                ) from error
        return self._evaluators[plan]


def _load(path: Path, batches: Sequence[int] | None, precision: float | None) -> tuple[HeadBundle, Sequence[Plan]]:
    """Read a bundle's head and the plans that it is served with."""
    file = BundleFile.load(path, HEAD_PREFIX)
    if file.part == CLIENT:
        raise NotThisFormat(f"{path} is the client's part of a model, which holds no head. Serve the server's part.")
    if file.part == SERVER:
        part = ServerPart.of(path, file)
        published = tuple(plan.batch for plan in part.plans)
        if (batches is not None and tuple(sorted(batches)) != published) or precision is not None:
            raise UsageError(
                f"{path} is served with the plans that its owner published: {', '.join(map(str, published))} images a "
                "request. Leave --batch and --precision out, or have the model published with others."
            )
        return HeadBundle.of(file), part.plans
    bundle = HeadBundle.of(file)
    plans = choose_plans(
        bundle.head,
        batches=batches or (1,),
        policy=bundle.policy,
        precision=precision or PRECISION,
        input_bound=bundle.input_bound,
    )
    # A published plan was tried under encryption by its owner; these are tried here.
    for plan in plans:
        try_plan(plan, bundle.head)
    return bundle, plans


def _line(error: HeInferError) -> str:
    return " ".join(str(error).split())
