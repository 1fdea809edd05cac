"""Blocks of a run: every image once and in order, and test questions where they are promised."""

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

from he_infer.ckks.planning.plan import Plan
from he_infer.client.blocks import KEPT_FROM, Block, BlockFiller, Extracted, images_a_request
from he_infer.client.images.reader import ReadImage

QUESTIONS = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
IMAGE = ReadImage(Path("x.png"))


def plan(batch: int) -> Plan:
    return cast(Plan, SimpleNamespace(batch=batch))


def blocks_of(batch: int, images: int, rate: float | None, seed: int = 1, refused: int = 0) -> list[Block]:
    entries = [Extracted(IMAGE, np.full(2, number + 10.0)) for number in range(images)]
    entries += [Extracted(IMAGE, None, "no image")] * refused
    return list(BlockFiller(plan(batch), QUESTIONS, rate, np.random.default_rng(seed)).fill(entries))


def questions_in(block: Block) -> list[int]:
    return [-1 - owner for owner in block.owners if owner < 0]


@pytest.mark.parametrize("batch", [1, 2, 5, 16, 64])
@pytest.mark.parametrize("images", [0, 1, 2, 15, 16, 63, 64, 65, 200])
@pytest.mark.parametrize("rate", [None, 0, 0.3, 2.5])
def test_every_image_is_in_one_row_in_order_and_no_block_is_too_large(
    batch: int, images: int, rate: float | None
) -> None:
    blocks = blocks_of(batch, images, rate, refused=2)
    assert [row[0] for block in blocks for row, owner in zip(block.rows, block.owners, strict=True) if owner >= 0] == [
        number + 10.0 for number in range(images)
    ]
    assert sum(len(block.entries) for block in blocks) == images + 2
    assert all(len(block.rows) <= batch for block in blocks)
    if rate == 0:
        assert not any(questions_in(block) for block in blocks)
    elif images:
        assert questions_in(blocks[0])


@pytest.mark.parametrize("images", [1, 15, 16, 63, 64, 200, 630])
def test_every_request_to_many_images_holds_a_question(images: int) -> None:
    blocks = blocks_of(64, images, None)
    assert [len(questions_in(block)) for block in blocks] == [1] * -(-images // 63)


def test_questions_of_smaller_requests_take_one_row_in_sixteen() -> None:
    blocks = blocks_of(4, 40_000, None)
    share = sum(len(questions_in(block)) for block in blocks) / sum(len(block.rows) for block in blocks)
    assert share == pytest.approx(1 / KEPT_FROM, rel=0.1)
    assert 40_000 / len(blocks) == pytest.approx(images_a_request(plan(4)), rel=0.02)


def test_a_question_of_zeros_is_not_asked_since_empty_rows_have_the_same_answer() -> None:
    asked = {
        question for seed in range(20) for block in blocks_of(16, 200, 0.2, seed) for question in questions_in(block)
    }
    assert asked == {1, 2}
