"""Levels and scales at every step of a plan, for the exact primes of a chain. Client and server both use it."""

from collections.abc import Sequence
from dataclasses import dataclass

from he_infer.ckks.planning.order import Moment
from he_infer.ckks.planning.plan import Plan


@dataclass(frozen=True)
class StageScales:
    """Levels and scales of a hidden layer. A level is the number of rescalings that a value can still take."""

    level: int
    """Level of the stage's input and of the encoded weights."""
    scale: float
    """Scale of the stage's input."""
    weight_scale: float
    """Scale of the encoded weights: the exact prime if the product is rescaled, so that its scale is restored."""
    level_of_values: int
    """Level of the activation's input and of the encoded biases."""
    scale_of_values: float


@dataclass(frozen=True)
class ScaleWalk:
    """A plan's levels and scales."""

    stages: tuple[StageScales, ...]
    output_level: int
    """Level of the last layer's inputs and weights."""
    output_scale: float
    """Scale of the last layer's inputs."""
    product_scale: float
    """Scale of the last layer's products and of the encoded biases."""
    answer_scale: float
    """Scale of the answer, at level 0 after the last rescaling: units of a residue in a score of one."""


def walk_scales(plan: Plan, primes: Sequence[int]) -> ScaleWalk:
    """Compute a plan's levels and scales; `primes` are the chain's, the first one first."""
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
