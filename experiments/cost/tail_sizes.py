"""Cost of an encrypted convolution by its size: random weights, real ciphertexts, nothing trained."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from experiments import encrypted
from he_infer.head.convolution import Convolution
from he_infer.head.layers import Head, Linear, Polynomial

BOUND = 4.0
CLASSES = 2
CELLS = 4
"""Cells of the average pool."""

SIZES: tuple[tuple[tuple[int, int, int], int, int], ...] = (
    ((8, 8, 8), 8, 1),
    ((16, 8, 8), 16, 1),
    ((16, 8, 8), 32, 2),
    ((32, 8, 8), 32, 1),
    ((16, 16, 16), 16, 1),
)
"""Maps (channels, height, width) that go in, channels that come out of a 3 x 3 convolution, and its stride."""


@dataclass(frozen=True)
class SizeRow:
    """A size of the maps, and its figures."""

    maps: str
    convolution: str
    features: int
    plan: str
    key_switches: int
    max_abs_error: float
    server_ms: float
    """Median."""
    bytes_up: int
    bytes_down: int
    evaluation_key_bytes: int


def make_random_tail(shape: tuple[int, int, int], outputs: int, stride: int, random: np.random.Generator) -> Head:
    """A convolution whose outputs lie mostly within +-4, x^2, an average pool of 2 x 2 cells, and two classes."""
    channels = shape[0]
    spread = 1 / np.sqrt(9 * channels)
    weight = random.normal(0, spread, (outputs, channels, 3, 3))
    first = Convolution(weight, random.normal(0, 0.1, outputs), shape, stride, 1)
    _, high, wide = first.output_shape
    side = high // 2
    cells = random.normal(0, 1 / np.sqrt(CELLS * outputs), (CLASSES, outputs, 2, 1, 2, 1)) / side**2
    pixels = np.broadcast_to(cells, (CLASSES, outputs, 2, side, 2, wide // 2)).reshape(CLASSES, -1)
    return Head((first, Polynomial((0.0, 0.0, 1.0)), Linear(pixels, np.zeros(CLASSES))))


def measure_sizes(count: int, seed: int, progress: Callable[[int], None]) -> list[SizeRow]:
    """Each size, on `count` random feature vectors of typical size, in order."""
    random = np.random.default_rng(seed)
    rows = []
    for done, (shape, outputs, stride) in enumerate(SIZES, 1):
        head = make_random_tail(shape, outputs, stride, random)
        features = np.clip(random.normal(0, BOUND / 4, (count, head.width)), -BOUND, BOUND)
        plan = encrypted.plan_head(head, policy="hidden", input_bound=BOUND)
        found = encrypted.evaluate_plan(head, plan, features)
        rows.append(
            SizeRow(
                maps=f"{shape[1]} x {shape[2]} x {shape[0]}",
                convolution=f"to {outputs}" + (f", stride {stride}" if stride > 1 else ""),
                features=head.width,
                plan=str(plan.parameters),
                key_switches=plan.key_switches,
                max_abs_error=float(np.abs(found.scores - head.evaluate(features)).max()),
                server_ms=float(np.median(found.evaluate_ms)),
                bytes_up=found.bytes_up,
                bytes_down=found.bytes_down,
                evaluation_key_bytes=found.evaluation_key_bytes,
            )
        )
        progress(done)
    return rows
