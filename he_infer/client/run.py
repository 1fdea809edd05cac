"""A run over many images: reading, extraction, encryption, the server and decryption overlap.

A run gives one result for each image, in the order of the files. A failure of one image becomes that image's refusal. A
wrong or untrustworthy answer ends the run: at once in the first request, otherwise after the last request, so that a
server does not learn from the client's behaviour which of its answers were checked.
"""

import itertools
import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from he_infer.ckks.packing import pack
from he_infer.ckks.planning.plan import Plan
from he_infer.client.blocks import KEPT_FROM, Block, BlockFiller, Extracted, images_a_request
from he_infer.client.connection.session import Session
from he_infer.client.images.array import ArrayImage
from he_infer.client.images.reader import Frames, ImageReader, ReadImage
from he_infer.client.keys.secret_key import SecretKey
from he_infer.client.model import ClientModel
from he_infer.client.release.rounding import to_probabilities
from he_infer.client.results import Cause, Result, RunReport
from he_infer.client.served_model import ServedModel
from he_infer.client.stages import map_ahead, run_ahead
from he_infer.client.verify.answer import Answer
from he_infer.client.verify.canaries import system_generator, wrong_rows
from he_infer.client.verify.scores import count_outside, open_scores
from he_infer.errors import FormatError, ServerError, WrongAnswer

if TYPE_CHECKING:
    from models.card import OperatingPoint

EXTRACTED_TOGETHER = 32
"""Number of images whose features are computed in one call."""
IN_FLIGHT = 4
"""Number of requests that are sent at the same time."""
_READ_AHEAD = 16
_SHARE = 0.06
"""Server time of one more image in a request, as a fraction of the time of a one-image request (docs/engine.md)."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class RunOptions:
    """Options of a run."""

    frames: Frames = "middle"
    canary_rate: float | None = None
    """Canary questions for each image, beside those of the kept rows (`blocks`); None: no others; 0: none at all."""
    in_flight: int = IN_FLIGHT
    even_if_unlike: bool = False
    """Whether images that the model's guard finds unlike its training images are classified, with a remark."""
    on_sent: Callable[[Sequence[bytes]], None] | None = None
    """Called with the ciphertexts of each request, from several threads. The server receives nothing else of the
    images."""


@dataclass(frozen=True, eq=False)
class _Answered:
    block: Block
    order: NDArray[np.int64]
    """Row i of the request is row order[i] of the block."""
    answer: Answer | None
    seconds: float
    error: ServerError | None = None


class Run:
    """Classifies files with one model under one plan; iterate over it once for its results.

    Raises:
        WrongAnswer: an answer to a canary question is wrong, or an answer lies outside the range that the model's
            scores can have. All results of the run are then invalid, including those that were given before.
        NotAuthentic: an answer's receipt is not signed by the server, or belongs to another request.
        ServerError and subclasses: the first request failed. If a later request fails, its images and all images after
        it are refused with the reason.
    """

    def __init__(
        self,
        session: Session,
        model: ClientModel,
        served: ServedModel,
        secret_keys: Callable[[Plan], SecretKey],
        key_set: str,
        reader: ImageReader,
        files: Sequence[Path | ArrayImage],
        options: RunOptions,
        progress: Progress | None = None,
        rng: np.random.Generator | None = None,
    ) -> None:
        self.report = RunReport()
        self.plan = choose_plan(served.plans, len(files))
        self._session = session
        self._model = model
        self._served = served
        self._secret_key = secret_keys(self.plan)
        self._key_set = key_set
        self._reader = reader
        self._files = files
        self._options = options
        self._progress = progress
        self._rng = rng or system_generator()
        self._crypt = threading.Lock()
        self._done = 0
        self._wrong = self._outside = self._unopened = 0
        self._down: ServerError | None = None

    def __iter__(self) -> Iterator[Result]:
        began = time.perf_counter()
        with (
            ThreadPoolExecutor(self._reader.processes) as readers,
            ThreadPoolExecutor(self._options.in_flight) as senders,
        ):
            extracted = run_ahead(self._extract_all(readers), 2 * max(EXTRACTED_TOGETHER, self.plan.batch))
            filler = BlockFiller(self.plan, self._model.questions, self._options.canary_rate, self._rng)
            blocks = filler.fill(extracted)
            answers = map_ahead(blocks, self._ask, senders, self._options.in_flight)
            first = True
            try:
                for answered in answers:
                    yield from self._open(answered)
                    if self._is_distrusted and first:
                        break
                    first = first and answered.answer is None
            finally:
                answers.close()  # type: ignore[attr-defined]  # generators, whose threads end with them
                extracted.close()  # type: ignore[attr-defined]
        self.report.seconds = time.perf_counter() - began
        self.check()

    def check(self) -> None:
        """Check the answers so far. The end of a run does it; whoever stops one early and keeps its results must, too.

        Raises:
            WrongAnswer: as the end of the run.
        """
        if self._is_distrusted:
            raise self._distrust()

    @property
    def _is_distrusted(self) -> bool:
        return bool(self._wrong or self._outside or self._unopened)

    def _extract_all(self, readers: ThreadPoolExecutor) -> Iterator[Extracted]:
        """Read the files and extract their features, in order."""

        def read(path: Path | ArrayImage) -> list[tuple[ReadImage, bool]]:
            started = time.perf_counter()
            frames = self._options.frames
            images = [path.read()] if isinstance(path, ArrayImage) else self._reader.read(path, frames)
            self.report.spend("reading", time.perf_counter() - started)
            return [(image, image is images[-1]) for image in images]

        # Images of one file follow each other; the last one advances the progress.
        frames = itertools.chain.from_iterable(map_ahead(self._files, read, readers, _READ_AHEAD))
        for chunk in _chunks(frames, EXTRACTED_TOGETHER):
            yield from self._extract(chunk)

    def _extract(self, chunk: Sequence[tuple[ReadImage, bool]]) -> Iterator[Extracted]:
        pictures = [image.pixels for image, _ in chunk if image.pixels is not None]
        started = time.perf_counter()
        rows = iter(self._features(pictures))
        self.report.spend("extraction", time.perf_counter() - started)
        for image, last in chunk:
            if image.pixels is None:
                yield Extracted(image, None, image.refusal, last)
                continue
            bare = ReadImage(image.path, image.frame, None, None, image.identifiers, image.remarks)
            features, refusal = next(rows)
            if features is not None:
                unlike = find_unlike(self._model, image, features)
                if unlike and self._options.even_if_unlike:
                    bare = replace(bare, remarks=(*bare.remarks, unlike))
                elif unlike:
                    features, refusal = None, f"{image.path}: {unlike}"
            yield Extracted(bare, features, refusal, last)

    def _features(self, pictures: list[NDArray[np.float32]]) -> list[tuple[NDArray[np.float64] | None, str | None]]:
        """Compute the features of each picture, or the reason why it has none."""
        from models.errors import ModelsError

        if not pictures:
            return []
        try:
            return [(row, None) for row in self._model.feature_model.features(pictures).astype(np.float64)]
        except ModelsError as error:
            if len(pictures) == 1:
                return [(None, " ".join(str(error).split()))]
        # One bad picture makes the whole call fail: try each picture alone.
        return [pair for picture in pictures for pair in self._features([picture])]

    def _ask(self, block: Block) -> _Answered:
        """Encrypt a block's rows in random order, and let the server evaluate the head on them."""
        order = self._rng.permutation(len(block.rows))
        real = any(owner >= 0 for owner in block.owners)
        if self._down is not None or (not real and not block.rows):
            return _Answered(block, order, None, 0.0, self._down)
        with self._crypt:
            started = time.perf_counter()
            rows = np.stack([block.rows[index] for index in order])
            sent = self._secret_key.encrypt(pack(self.plan, rows), self.plan.input_scale)
            self.report.spend("encryption", time.perf_counter() - started)
        if self._options.on_sent is not None:
            self._options.on_sent(sent)
        started = time.perf_counter()
        try:
            answer = self._session.classify(self._served, self.plan, self._key_set, sent)
        except ServerError as error:
            if self.report.requests == 0:
                raise
            self._down = error
            return _Answered(block, order, None, 0.0, error)
        return _Answered(block, order, answer, time.perf_counter() - started)

    def _open(self, answered: _Answered) -> Iterator[Result]:
        block, answer = answered.block, answered.answer
        probabilities: dict[int, NDArray[np.float64]] = {}
        if answer is not None:
            with self._crypt:
                started = time.perf_counter()
                opened = self._decrypt(answer)
                self.report.spend("decryption", time.perf_counter() - started)
            self.report.spend("server", answered.seconds)
            self._count(answer)
            if opened is None:
                return
            self._judge_unused(opened[len(block.rows) :])
            scores = np.empty_like(opened[: len(block.rows)])
            scores[answered.order] = opened[: len(block.rows)]
            self._judge(block, scores)
            given = to_probabilities(scores, self.plan.precision)
            probabilities = {owner: given[row] for row, owner in enumerate(block.owners) if owner >= 0}
        if self._is_distrusted:
            return
        share = answered.seconds / max(1, len(block.rows))
        for index, entry in enumerate(block.entries):
            refusal = entry.refusal
            if refusal is None and index not in probabilities:
                refusal = f"{entry.image.path} was not classified: {answered.error}"
            yield self._result(entry, probabilities.get(index), refusal, answer, share)
            self._done += entry.last_of_file
            if self._progress is not None and entry.last_of_file:
                self._progress(self._done, len(self._files))

    def _decrypt(self, answer: Answer) -> NDArray[np.float64] | None:
        """Decrypt an answer's scores of all rows. If it does not open under this key, count it and return None."""
        try:
            return open_scores(self._secret_key, self.plan, answer.parts, self.plan.batch)
        except FormatError:  # malformed, or not for this key: a server must not see which of the two it is
            self._unopened += 1
            return None

    def _count(self, answer: Answer) -> None:
        report = self.report
        report.requests += 1
        report.bytes_up += answer.bytes_up
        report.bytes_down += answer.bytes_down
        report.receipts.append(answer.receipt)
        report.server_seconds.append(answer.server_seconds)

    def _judge_unused(self, scores: NDArray[np.float64]) -> None:
        """Check the scores of rows that hold no image: their features are zero, which is a published question.

        Answers to many images have no other numbers that are known beforehand.
        """
        zero = self._model.questions[0], self._model.answers[0]
        if len(scores) and not zero[0].any() and wrong_rows(self.plan, scores, zero[1]):
            self._unopened += 1

    def _judge(self, block: Block, scores: NDArray[np.float64]) -> None:
        """Count an answer's wrong canary answers and its scores outside of the range."""
        report = self.report
        asked = [(row, -1 - owner) for row, owner in enumerate(block.owners) if owner < 0]
        if asked:
            rows, questions = np.array(asked).T
            report.canaries += len(asked)
            report.canary_requests += 1
            self._wrong += wrong_rows(self.plan, scores[rows], self._model.answers[questions])
        self._outside += count_outside(self.plan, scores, self._model.score_bounds)

    def _result(
        self,
        entry: Extracted,
        probabilities: NDArray[np.float64] | None,
        refusal: str | None,
        answer: Answer | None,
        seconds: float,
    ) -> Result:
        label = probability = None
        named: dict[str, float] = {}
        if probabilities is not None:
            best = self._decide(probabilities)
            label, probability = self._model.classes[best], float(probabilities[best])
            named = {name: float(value) for name, value in zip(self._model.classes, probabilities, strict=True)}
        self.report.classified += label is not None
        self.report.refused += label is None
        return Result(
            path=entry.image.path,
            label=label,
            probability=probability,
            probabilities=named,
            refusal=refusal,
            cause=_find_cause(entry, label),
            identifiers=entry.image.identifiers,
            frame=entry.image.frame,
            model=self._model.id,
            publisher=self._model.publisher,
            plan=None if label is None else self.plan.digest,
            threshold=None if label is None or self._point is None else self._point.threshold,
            positive=None if label is None or self._point is None else self._point.positive,
            receipt=answer.receipt if answer is not None and label is not None else None,
            seconds=None if label is None else seconds,
            remarks=entry.image.remarks,
        )

    @cached_property
    def _point(self) -> "OperatingPoint | None":
        from models.card import read_operating_point

        return read_operating_point(self._model.feature_model.card, self._model.classes)

    def _decide(self, probabilities: NDArray[np.float64]) -> int:
        """Decide the class by the model card, from the rounded probabilities."""
        from models.card import decide

        return int(decide(self._model.feature_model.card, self._model.classes, probabilities[None])[0])

    def _distrust(self) -> WrongAnswer:
        found = []
        if self._unopened:
            found.append(f"{self._unopened} answers do not open under this key file")
        if self._wrong:
            found.append(f"{self._wrong} of {self.report.canaries} test questions were answered wrongly")
        if self._outside:
            found.append(f"{self._outside} answers lie outside the range that this model's scores can have")
        return WrongAnswer(
            f"No result of this run is to be trusted: {' and '.join(found)}. Likely causes, the likeliest first: (1) "
            "the key file is not the one whose keys were registered, or is damaged; (2) the server's key set "
            f"{self._key_set} is damaged: delete it with 'he-infer keys forget', then 'he-infer keys register'; (3) "
            "the server computes something else than the published model. Keep the receipts, and ask its operator.",
            [receipt.to_json() for receipt in self.report.receipts],
        )


def find_unlike(model: ClientModel, image: ReadImage, features: NDArray[np.float64]) -> str | None:
    """Reason why an image's header or features are unlike the training images; None if they are not."""
    from models.card import check_kind

    made_from = model.feature_model
    return check_kind(made_from.card, image.kind) or made_from.judge(features[None])[0].reason or None


def _find_cause(entry: Extracted, label: str | None) -> Cause | None:
    """Find the cause of an image's refusal: file, model or server."""
    if label is not None:
        return None
    if entry.image.refusal is not None:
        return Cause.FILE
    return Cause.SERVER if entry.refusal is None else Cause.MODEL


def choose_plan(plans: Sequence[Plan], images: int) -> Plan:
    """Choose the plan with the least server time for this number of images; the smallest batch if several are equal."""

    def cost(plan: Plan) -> float:
        first = 1 if plan.batch < KEPT_FROM else 0  # the question of the first request, beside the kept rows
        requests = math.ceil((images + first) / images_a_request(plan))
        return requests * (1.0 + _SHARE * (plan.batch - 1))

    return min(plans, key=cost)


def _chunks(items: Iterable[tuple[ReadImage, bool]], size: int) -> Iterator[list[tuple[ReadImage, bool]]]:
    iterator = iter(items)
    while chunk := list(itertools.islice(iterator, size)):
        yield chunk
