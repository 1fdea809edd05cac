"""Levels and scales at every step of a plan, for the exact primes of a chain: the same walk on both sides."""

from collections.abc import Sequence
from dataclasses import dataclass

from he_infer.ckks.planning.order import Moment
from he_infer.ckks.planning.plan import Plan


@dataclass(frozen=True)
class StageScales:
    """Levels and scales of a hidden layer. A level is the number of rescalings that a value can still take."""

    level: int
    """The stage's input, and the encoded weights."""
    scale: float
    """The stage's input."""
    weight_scale: float
    """The encoded weights: the exact prime where the product is rescaled, so that rescaling restores the scale."""
    level_of_values: int
    """The activation's input, and the encoded biases."""
    scale_of_values: float


@dataclass(frozen=True)
class ScaleWalk:
    """A plan's levels and scales."""

    stages: tuple[StageScales, ...]
    output_level: int
    """The last layer's inputs and weights."""
    output_scale: float
    """The last layer's inputs."""
    product_scale: float
    """The last layer's products, and the encoded biases."""
    answer_scale: float
    """The answer, at level 0 and after the last rescaling: a score of one is so many units of a residue."""


def walk_scales(plan: Plan, primes: Sequence[int]) -> ScaleWalk:
    """Walk through a plan; `primes` are the chain's, the first one first."""
    level, scale = plan.parameters.levels, plan.input_scale
    stages = []
    last = len(plan.stages) - 1
    for index, stage in enumerate(plan.stages):
        weight_scale = float(primes[level]) if stage.rescaled else stage.weight_scale
        before = level, scale
        scale *= weight_scale
        if stage.rescaled:
            scale /= primes[level]
            level -= 1
        stages.append(StageScales(*before, weight_scale, level, scale))
        start = scale
        for step in range(stage.multiplications):
            scale *= start if step and stage.degree == 3 else scale
            postponed = index == last and step == stage.multiplications - 1 and plan.order.output is Moment.BEFORE
            if not postponed:
                scale /= primes[level]
                level -= 1
    product = scale * plan.output_scale
    answer = product
    for each in range(level, 0, -1):
        answer /= primes[each]
    return ScaleWalk(tuple(stages), level, scale, product, answer)
