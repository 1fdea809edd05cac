"""Evaluates features through a server, so that demo and experiments can compare encrypted and clear scores.

It knows ciphertexts and a session. It knows neither images nor the extractor: features are given as an array.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from he_infer.ckks.packing import pack
from he_infer.ckks.planning.plan import Plan
from he_infer.client.connection.session import Session
from he_infer.client.keys.secret_key import SecretKey
from he_infer.client.release.rounding import round_scores
from he_infer.client.served_model import ServedModel
from he_infer.client.verify.canaries import Canaries, CanaryReport, places, system_generator, wrong_rows
from he_infer.client.verify.receipts import Receipt
from he_infer.client.verify.scores import open_scores
from he_infer.errors import MissingKey, ShapeError, WrongAnswer
from he_infer.wire.key_set import new_key_set

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Request:
    """Cost of one request: bytes and seconds. Each side measures its own seconds."""

    images: int
    """Number of feature rows, canaries included."""
    bytes_up: int
    bytes_down: int
    server_seconds: float
    """Time for parsing, computing and saving, as the server measured it."""
    encrypt_seconds: float
    decrypt_seconds: float
    round_trip_seconds: float
    """Time from sending to the last byte of the answer, the server's time included."""


@dataclass(frozen=True)
class Scores:
    """Decrypted scores, with the cost and the receipt of each request."""

    _opened: NDArray[np.float64] = field(repr=False)
    """(n, classes) scores as decrypted. Only this module may read them."""
    precision: float
    """The largest score error that the plan allows for."""
    requests: tuple[Request, ...]
    receipts: tuple[Receipt, ...] = field(repr=False)
    """One receipt for each request, in the order of the requests."""
    request_of: tuple[int, ...] = field(default=(), repr=False)
    """(n,) index of the request that held each image."""
    canaries: CanaryReport | None = None

    def __len__(self) -> int:
        """Number of images."""
        return len(self._opened)

    @property
    def labels(self) -> NDArray[np.int64]:
        """(n,) index of the highest rounded score of each image; the lowest index if several are equal."""
        return np.asarray(np.argmax(self.rounded, axis=1), dtype=np.int64)

    @property
    def rounded(self) -> NDArray[np.float64]:
        """(n, classes) scores rounded to the plan's precision, for measurements. No command outputs scores."""
        return round_scores(self._opened, self.precision)

    def errors(self, clear: NDArray[np.float64]) -> NDArray[np.float64]:
        """(n, classes) differences of the decrypted scores from scores in clear.

        They show the encryption's noise: use this only for measurements under a key that is deleted afterwards.
        """
        return np.asarray(self._opened - clear)


class EncryptedClassifier:
    """Classifies features with one served model under one secret key.

    Args:
        session: an open session with the server.
        model: one of the session's models.
        plan: one of the model's plans; a request carries `plan.batch` images.
        secret_key: made for the plan's parameters; it never leaves this object.
        key_set: id of the registered evaluation keys; a new random id by default.

    Raises:
        MissingKey: the secret key was made for other parameters than the plan's.
    """

    def __init__(
        self, session: Session, model: ServedModel, plan: Plan, secret_key: SecretKey, key_set: str | None = None
    ) -> None:
        if secret_key.parameters != plan.parameters:
            raise MissingKey(
                "The secret key was made for other parameters than this model's plan. Make keys for it with "
                "'he-infer keys new'."
            )
        self._session = session
        self._model = model
        self._plan = plan
        self._secret_key = secret_key
        self.key_set = key_set or new_key_set()

    def register(self) -> int:
        """Make and register the plan's evaluation keys, if it needs any; returns their size in bytes."""
        parts = self._secret_key.evaluation_keys(self._plan)
        if not parts:
            return 0
        return self._session.register(self._plan, self.key_set, parts).bytes

    def scores(
        self,
        features: NDArray[np.floating],
        progress: Progress | None = None,
        *,
        canaries: Canaries | None = None,
        rng: np.random.Generator | None = None,
    ) -> Scores:
        """Let the server evaluate the head on encrypted features.

        Args:
            features: (n, width), each within the model's input bound.
            progress: called after each request with the number of rows done and in total.
            canaries: questions with known answers, mixed among the features; see `he_infer.client.verify.canaries`.
            rng: chooses the canaries' places; for tests, otherwise seeded by the operating system.

        Raises:
            WrongAnswer: a canary's answer is wrong. Raised after the last answer, so that the server cannot tell which
                rows are canaries.
            ShapeError: features have the wrong width, are not finite, or exceed the model's bound.
            MissingKey: no evaluation keys are registered for the plan.
            NotAuthentic: the answer is not of the form that the plan gives.
            ServerError and subclasses: see `Session.classify`.
        """
        values = self._checked(features)
        hidden = np.empty(0, dtype=np.int64)
        rows = values
        if canaries is not None:
            hidden = places(len(values), len(canaries), self._plan.batch, rng or system_generator())
            rows = np.empty((len(values) + len(canaries), values.shape[1]))
            rows[hidden] = self._checked(canaries.features)
            rows[_others(len(rows), hidden)] = values
        answered, requests, receipts = self._ask_all(rows, progress)
        real = _others(len(rows), hidden)
        report = None
        if canaries is not None:
            held = len(set((hidden // self._plan.batch).tolist()))
            report = CanaryReport(len(canaries), held, wrong_rows(self._plan, answered[hidden], canaries.expected))
            if report.wrong:
                raise WrongAnswer(
                    f"The server answered {report.wrong} of {report.sent} test questions wrongly, and may have done so "
                    "with any other: no score of this run is to be trusted. Keep the receipts, and ask its operator.",
                    [receipt.to_json() for receipt in receipts],
                )
        request_of = tuple(int(row) // self._plan.batch for row in real)
        return Scores(
            answered[real],
            self._plan.precision,
            tuple(requests),
            tuple(receipts),
            request_of=request_of,
            canaries=report,
        )

    def _checked(self, features: NDArray[np.floating]) -> NDArray[np.float64]:
        values = np.asarray(features, dtype=np.float64)
        bound = self._model.input_bound
        if values.ndim != 2 or len(values) == 0:
            raise ShapeError(f"Features have the shape {values.shape}; expected (n, width) with n at least 1.")
        if not np.isfinite(values).all() or float(np.abs(values).max()) > bound:
            raise ShapeError(
                f"A feature lies outside the model's bound of {bound:g}, or is not a number. Such an image is unlike "
                "the training images; it was not sent."
            )
        return values

    def _ask_all(
        self, rows: NDArray[np.float64], progress: Progress | None
    ) -> tuple[NDArray[np.float64], list[Request], list[Receipt]]:
        parts = []
        requests: list[Request] = []
        receipts: list[Receipt] = []
        for start in range(0, len(rows), self._plan.batch):
            block = rows[start : start + self._plan.batch]
            opened, request, receipt = self._ask(block)
            parts.append(opened)
            requests.append(request)
            receipts.append(receipt)
            if progress:
                progress(start + len(block), len(rows))
        return np.concatenate(parts), requests, receipts

    def _ask(self, block: NDArray[np.float64]) -> tuple[NDArray[np.float64], Request, Receipt]:
        began = time.perf_counter()
        ciphertexts = self._secret_key.encrypt(pack(self._plan, block), self._plan.input_scale)
        sent = time.perf_counter()
        answer = self._session.classify(self._model, self._plan, self.key_set, ciphertexts)
        received = time.perf_counter()
        opened = open_scores(self._secret_key, self._plan, answer.parts, len(block))
        ended = time.perf_counter()
        request = Request(
            images=len(block),
            bytes_up=answer.bytes_up,
            bytes_down=answer.bytes_down,
            server_seconds=answer.server_seconds,
            encrypt_seconds=sent - began,
            decrypt_seconds=ended - received,
            round_trip_seconds=received - sent,
        )
        return opened, request, answer.receipt


def _others(total: int, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.setdiff1d(np.arange(total), rows)
