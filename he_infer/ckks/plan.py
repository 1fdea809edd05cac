"""A plan: the steps that compute one head under encryption, with the parameters, scales and rotations they need.

A plan holds no weights. Client and server work from the same plan, and its digest names it on the wire.
"""

import hashlib
import json
import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from he_infer.ckks import layout
from he_infer.ckks.engine import galois_element
from he_infer.ckks.head import Head, Linear
from he_infer.ckks.layout import Layout
from he_infer.ckks.parameters import Parameters
from he_infer.errors import HeadError, ParameterError, UnsupportedVersion

VERSION = 1
POLICIES = ("hidden", "open")


@dataclass(frozen=True)
class Stage:
    """One linear layer, and the square that follows it or not."""

    layout: Layout
    weight_scale: float
    """Scale of the encoded weights."""
    rescaled: bool
    """Whether the product is rescaled; at level 0 it is not."""
    squared: bool


@dataclass(frozen=True)
class Plan:
    """How a head is computed; see `make_plan`."""

    policy: str
    parameters: Parameters
    input_scale: float
    stages: tuple[Stage, ...]
    width: int
    classes: int
    head_digest: str
    input_bound: float
    precision: float
    batch: int = 1

    @cached_property
    def rotations(self) -> tuple[int, ...]:
        """All different rotations, ascending."""
        return tuple(sorted({step for stage in self.stages for step in stage.layout.rotations()}))

    @property
    def galois_elements(self) -> tuple[int, ...]:
        """The Galois elements of the rotations: the keys to make."""
        return tuple(galois_element(step, self.parameters.ring_size) for step in self.rotations)

    @property
    def relinearise(self) -> bool:
        """Whether a relinearisation key is needed."""
        return any(stage.squared for stage in self.stages)

    @property
    def key_switches(self) -> int:
        """Rotations and relinearisations of one evaluation."""
        return sum(len(stage.layout.rotations()) + stage.squared for stage in self.stages)

    def to_json(self) -> str:
        """Canonical JSON."""
        value: dict[str, Any] = {
            "version": VERSION,
            "policy": self.policy,
            "ring_size": self.parameters.ring_size,
            "modulus_bits": list(self.parameters.modulus_bits),
            "input_scale": self.input_scale,
            "width": self.width,
            "classes": self.classes,
            "head_digest": self.head_digest,
            "input_bound": self.input_bound,
            "precision": self.precision,
            "batch": self.batch,
            "stages": [
                {
                    "kind": stage.layout.kind,
                    "inputs": stage.layout.inputs,
                    "outputs": stage.layout.outputs,
                    "baby": stage.layout.baby,
                    "giant": stage.layout.giant,
                    "folds": list(stage.layout.folds),
                    "weight_scale": stage.weight_scale,
                    "rescaled": stage.rescaled,
                    "squared": stage.squared,
                }
                for stage in self.stages
            ],
        }
        return json.dumps(value, sort_keys=True, separators=(",", ":"))

    @property
    def digest(self) -> str:
        """SHA-256 of the JSON, hex."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    @classmethod
    def from_json(cls, text: str) -> "Plan":
        """Parse and check: parameters within the budget, layouts that fit their slots.

        Raises:
            UnsupportedVersion: a plan of another version.
            ParameterError: not a plan, or one outside the security budget.
        """
        try:
            value = json.loads(text)
            if value["version"] != VERSION:
                raise UnsupportedVersion(f"A plan of version {value['version']}; this release reads {VERSION}.")
            parameters = Parameters(value["ring_size"], tuple(value["modulus_bits"]))
            stages = tuple(
                Stage(
                    Layout(
                        stage["kind"],
                        stage["inputs"],
                        stage["outputs"],
                        parameters.slots,
                        stage["baby"],
                        stage["giant"],
                        tuple(stage["folds"]),
                    ),
                    stage["weight_scale"],
                    stage["rescaled"],
                    stage["squared"],
                )
                for stage in value["stages"]
            )
            return cls(
                value["policy"],
                parameters,
                value["input_scale"],
                stages,
                value["width"],
                value["classes"],
                value["head_digest"],
                value["input_bound"],
                value["precision"],
                value["batch"],
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ParameterError("The plan is damaged: a member is missing or of the wrong type.") from error


def squares(head: Head) -> list[Linear]:
    """The same function as linear layers with plain squares between them.

    c2 u^2 + c1 u + c0 = c2 (u + c1/(2 c2))^2 + c0 - c1^2/(4 c2): the shift goes into the bias before, the factor and
    the constant into the layer after.

    Raises:
        HeadError: an activation of a degree other than 2.
    """
    layers = list(head.linear)
    for index, activation in enumerate(head.activations):
        if activation.degree != 2:
            raise HeadError(f"An activation of degree {activation.degree} is not supported by this plan; use degree 2.")
        c0, c1, c2 = activation.coefficients
        before, after = layers[index], layers[index + 1]
        layers[index] = Linear(before.weight, before.bias + c1 / (2 * c2))
        constant = after.weight @ np.full(after.inputs, c0 - c1 * c1 / (4 * c2))
        layers[index + 1] = Linear(after.weight * c2, after.bias + constant)
    return layers


def make_plan(
    head: Head, *, batch: int = 1, policy: str = "hidden", precision: float = 1e-3, input_bound: float = 4.0
) -> Plan:
    """Plan a head.

    Args:
        head: linear layers with activations of degree 2.
        batch: images a request; 1.
        policy: `hidden` (the server finishes the sums) or `open` (the client does).
        precision: largest error of a score wanted.
        input_bound: largest |feature|.

    Raises:
        HeadError: a head this planner does not carry.
        ParameterError: no parameters fit.
    """
    if policy not in POLICIES:
        raise ParameterError(f"There is no policy {policy!r}; use one of {', '.join(POLICIES)}.")
    if batch != 1:
        raise ParameterError("This planner makes plans for one image a request.")
    layers = squares(head)
    if len(layers) > 2:
        raise HeadError(f"A head of {len(layers)} linear layers is deeper than this planner carries (2).")
    parameters = Parameters(8192, (60, 36, 36, 60) if len(layers) == 2 else (60, 40, 60))
    slots = parameters.slots
    first = layout.shifted(layers[0].inputs, layers[0].outputs, slots)
    q = [2.0**bits for bits in parameters.modulus_bits]
    if len(layers) == 1:
        if policy == "open":
            first = Layout(first.kind, first.inputs, first.outputs, slots, first.baby, first.giant, ())
        stages = [Stage(first, q[1], True, False)]
        scale = 2.0**36
    else:
        last = layout.blocks(layers[1].inputs, layers[1].outputs, slots)
        if last.inputs * last.outputs > slots or last.inputs != first.outputs:
            last = layout.diagonals(layers[1].inputs, layers[1].outputs, slots)
        if policy == "open" and last.kind == "blocks":
            last = Layout(last.kind, last.inputs, last.outputs, slots, 1, 1, ())
        scale = 2.0**32
        hidden = np.linalg.norm(layers[0].weight, axis=1) * input_bound + np.abs(layers[0].bias)
        bound = float((np.abs(layers[1].weight) @ hidden**2 + np.abs(layers[1].bias)).max())
        room = 58.0 - math.log2(max(bound, 1.0)) - (2 * 32 - 36)
        if room < 14:
            raise ParameterError("The head's weights are too large for the precision wanted; train it with more decay.")
        stages = [Stage(first, q[2], True, True), Stage(last, 2.0 ** min(room, 30.0), False, False)]
    return Plan(
        policy, parameters, scale, tuple(stages), head.width, head.classes, head.digest, input_bound, precision, batch
    )
