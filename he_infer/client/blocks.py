"""Blocks: the rows of each request, with test questions among the images at places that a server cannot recognise."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from he_infer.ckks.planning.plan import Plan
from he_infer.client.images.reader import ReadImage

KEPT_FROM = 16
"""Rows of a request from which on one of them is always kept for a test question; of smaller requests a share that is
smaller in proportion keeps one, so that questions take at most one row in sixteen."""


@dataclass(frozen=True, eq=False)
class Extracted:
    """An image with its features, or with its refusal."""

    image: ReadImage
    features: NDArray[np.float64] | None = None
    refusal: str | None = None
    last_of_file: bool = True


@dataclass(eq=False)
class Block:
    """Content of one request, and the images whose results follow it."""

    entries: list[Extracted] = field(default_factory=list)
    rows: list[NDArray[np.float64]] = field(default_factory=list)
    owners: list[int] = field(default_factory=list)
    """For each row the index of its entry, or -1 - q for canary question q."""


class BlockFiller:
    """Fills blocks with images and test questions.

    A request without a known answer could be answered with the answer to an earlier one, under a receipt that the
    server signs for it. So a request to several images keeps a row for a question. Its features are not all zero: rows
    that hold no image are, so such an answer is too common.

    Args:
        plan: the plan of the requests.
        questions: (q, width) test questions.
        rate: test questions for each image; None: only the kept rows and the first request's; 0: none at all.
        rng: draws questions and places.
    """

    def __init__(
        self, plan: Plan, questions: NDArray[np.float64], rate: float | None, rng: np.random.Generator
    ) -> None:
        self._batch = plan.batch
        self._questions = questions
        self._usable = np.flatnonzero(questions.any(axis=1))
        if not len(self._usable):
            self._usable = np.arange(len(questions))
        self._rate = rate
        self._rng = rng

    def fill(self, extracted: Iterable[Extracted]) -> Iterator[Block]:
        """Make the blocks of all images, in order."""
        asks = self._rate != 0
        block, room = self._begin()
        if asks and room == self._batch:
            self._add_question(block)  # the first request holds one in any case
        for entry in extracted:
            while len(block.rows) >= room:
                yield self._end(block, room)
                block, room = self._begin()
            if entry.features is not None:
                for _ in range(self._draw_count()):
                    self._add_question(block)
                    if len(block.rows) >= room:
                        yield self._end(block, room)
                        block, room = self._begin()
                block.rows.append(entry.features)
                block.owners.append(len(block.entries))
            block.entries.append(entry)
        if asks and 0 < len(block.rows) < self._batch:
            room = self._batch - 1  # where there is a row to spare, it holds a question
        yield self._end(block, room)

    def _begin(self) -> tuple[Block, int]:
        """Begin a block; returns it with the number of rows that may be filled with images."""
        keeps = self._rate != 0 and self._batch > 1 and self._rng.random() * KEPT_FROM < self._batch
        return Block(), self._batch - keeps

    def _end(self, block: Block, room: int) -> Block:
        if room < self._batch and block.rows:
            self._add_question(block)
        return block

    def _draw_count(self) -> int:
        rate = self._rate or 0.0
        return int(rate) + int(self._rng.random() < rate - int(rate))

    def _add_question(self, block: Block) -> None:
        question = int(self._rng.choice(self._usable))
        block.rows.append(self._questions[question])
        block.owners.append(-1 - question)


def images_a_request(plan: Plan) -> float:
    """Return the mean number of images in a full request, beside the kept rows."""
    return plan.batch - min(1.0, plan.batch / KEPT_FROM) if plan.batch > 1 else 1.0
