"""A plan: the steps that compute one head under encryption, with the parameters, scales and rotations they need.

A plan holds no weights. Client and server work from the same plan, and its digest names it on the wire. `search` makes
plans; docs/format-plan.md has their JSON, member by member.
"""

import hashlib
import json
import re
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from he_infer.ckks.layouts.hidden_layer import HiddenLayout
from he_infer.ckks.layouts.last_layer import OutputLayout, Tile, Trace
from he_infer.ckks.layouts.ring import conjugation, galois_element
from he_infer.ckks.parameters import Parameters
from he_infer.ckks.planning.order import Digits, Moment, Order
from he_infer.errors import ParameterError, UnsupportedVersion

VERSION = 3
POLICIES = ("hidden", "open")
MAX_ANSWER_BITS = 56
_LARGEST = 1 << 20
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Stage:
    """A hidden layer: a linear map and its activation."""

    layout: HiddenLayout
    weight_scale: float
    """Scale of the encoded weights; if the product is rescaled, the engine takes the dropped prime as the scale."""
    rescaled: bool
    """Whether the linear map's product is rescaled. An activation's products always are."""
    degree: int
    """Degree of the activation."""

    @property
    def multiplications(self) -> int:
        """Number of the activation's ciphertext products, one after another."""
        return 1 if self.degree == 2 else 2

    @property
    def levels(self) -> int:
        """Number of levels that the stage takes."""
        return self.rescaled + self.multiplications

    @property
    def key_switches(self) -> int:
        """Number of key switches in one evaluation."""
        return self.layout.key_switches + self.layout.targets * self.multiplications


@dataclass(frozen=True)
class AnswerForm:
    """Form of the answers that are sent; see `he_infer.ckks.answer`."""

    bits: int
    """Bits of a residue after the last switch of modulus, to 2^bits."""
    noise: int
    """Width, in residues modulo the first prime, of the uniform noise added to each number that is sent; 0: none."""


@dataclass(frozen=True)
class Plan:
    """The steps and parameters that compute a head; see `search.make_plan`."""

    policy: str
    parameters: Parameters
    input_scale: float
    stages: tuple[Stage, ...]
    output: OutputLayout
    output_scale: float
    """Scale of the last layer's encoded weights."""
    gain: float
    """Factor of the circuit's scores. It lets a head of small weights use the whole modulus."""
    order: Order
    digits: Digits
    """Range of the key switches' digits, which the predicted error assumes."""
    answer: AnswerForm
    width: int
    classes: int
    head_digest: str
    input_bound: float
    precision: float
    batch: int
    error: float = field(compare=False)
    """Predicted largest error among a few thousand scores, for features of typical size."""

    @cached_property
    def rotations(self) -> tuple[int, ...]:
        """All different rotations, ascending, in slots."""
        return tuple(sorted(set().union(*(stage.layout.rotations() for stage in self.stages))))

    @property
    def galois_elements(self) -> tuple[int, ...]:
        """The Galois elements of the rotations and of the conjugation: the keys to make."""
        elements = [galois_element(step, self.parameters.ring_size) for step in self.rotations]
        if any(stage.layout.conjugated for stage in self.stages):
            elements.append(conjugation(self.parameters.ring_size))
        return tuple(elements)

    @property
    def relinearise(self) -> bool:
        """Whether a relinearisation key is needed."""
        return bool(self.stages)

    @property
    def refreshes(self) -> bool:
        """Whether answers are re-randomised, which takes the client's public key."""
        return self.policy == "hidden"

    @property
    def needs_keys(self) -> bool:
        """Whether the client must register evaluation keys."""
        return self.relinearise or self.refreshes

    @property
    def key_switches(self) -> int:
        """Number of rotations, conjugations and relinearisations in one evaluation."""
        return sum(stage.key_switches for stage in self.stages)

    @property
    def sources(self) -> int:
        """Number of ciphertexts in a request."""
        return self.stages[0].layout.sources if self.stages else self.output.sources

    @property
    def targets(self) -> int:
        """Number of ciphertexts in an answer."""
        return self.output.targets

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
            "error": self.error,
            "stages": [
                {
                    "layout": _write_hidden_layout(stage.layout),
                    "weight_scale": stage.weight_scale,
                    "rescaled": stage.rescaled,
                    "degree": stage.degree,
                }
                for stage in self.stages
            ],
            "output": _write_output(self.output),
            "output_scale": self.output_scale,
            "gain": self.gain,
            "order": {"folds": self.order.folds.value, "output": self.order.output.value},
            "digits": self.digits.value,
            "answer": {"bits": self.answer.bits, "noise": self.answer.noise},
        }
        return _canonical(value)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the JSON, hex."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    @classmethod
    def from_json(cls, text: str) -> "Plan":
        """Parse and check: parameters within the budget, layouts that fit their ring and one another.

        Raises:
            UnsupportedVersion: a plan of another version.
            ParameterError: not a plan, or one outside the security budget.
        """
        try:
            value = json.loads(text)
            if value["version"] != VERSION:
                raise UnsupportedVersion(
                    f"The plan has version {value['version']}; this release reads {VERSION}. Publish the model again."
                )
            plan = _build(value)
        except (KeyError, TypeError, ValueError, RecursionError, OverflowError) as error:
            raise ParameterError("The plan is damaged: a member is missing or of the wrong type.") from error
        _check(plan)
        return plan


def _canonical(value: dict[str, Any]) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _build(value: dict[str, Any]) -> Plan:
    stages = tuple(
        Stage(
            _read_hidden_layout(stage["layout"]),
            float(stage["weight_scale"]),
            bool(stage["rescaled"]),
            int(stage["degree"]),
        )
        for stage in value["stages"]
    )
    plan = Plan(
        str(value["policy"]),
        Parameters(value["ring_size"], tuple(value["modulus_bits"])),
        float(value["input_scale"]),
        stages,
        _read_output(value["output"]),
        float(value["output_scale"]),
        float(value["gain"]),
        Order(Moment(value["order"]["folds"]), Moment(value["order"]["output"])),
        Digits(value["digits"]),
        AnswerForm(value["answer"]["bits"], value["answer"]["noise"]),
        int(value["width"]),
        int(value["classes"]),
        str(value["head_digest"]),
        float(value["input_bound"]),
        float(value["precision"]),
        int(value["batch"]),
        float(value["error"]),
    )
    if _canonical(value) != plan.to_json():
        raise ValueError("A member has another type than the format defines, or is not of the format.")
    return plan


# The JSON's member names are written out, so that renaming a class or a field does not change any plan's digest.


def _write_hidden_layout(layout: HiddenLayout) -> dict[str, Any]:
    return {
        "inputs": layout.inputs,
        "outputs": layout.outputs,
        "slots": layout.slots,
        "images": layout.images,
        "shifted": layout.shifted,
        "lanes": layout.lanes,
        "parts": layout.parts,
        "size": layout.size,
        "baby": list(layout.baby),
        "giant": list(layout.giant),
    }


def _read_hidden_layout(value: dict[str, Any]) -> HiddenLayout:
    _check_members(value, "inputs outputs slots images shifted lanes parts size baby giant")
    return HiddenLayout(
        inputs=value["inputs"],
        outputs=value["outputs"],
        slots=value["slots"],
        images=value["images"],
        shifted=value["shifted"],
        lanes=value["lanes"],
        parts=value["parts"],
        size=value["size"],
        baby=tuple(value["baby"]),
        giant=tuple(value["giant"]),
    )


def _write_output(output: OutputLayout) -> dict[str, Any]:
    common = {
        "inputs": output.inputs,
        "outputs": output.outputs,
        "ring_size": output.ring_size,
        "images": output.images,
    }
    if isinstance(output, Tile):
        return {"kind": "tile", **common, "chunk": output.chunk, "rows": output.rows}
    return {"kind": "trace", **common, "used": output.used}


def _read_output(value: dict[str, Any]) -> OutputLayout:
    common = {name: value[name] for name in ("inputs", "outputs", "ring_size", "images")}
    if value["kind"] == "tile":
        _check_members(value, "kind inputs outputs ring_size images chunk rows")
        return Tile(**common, chunk=value["chunk"], rows=value["rows"])
    if value["kind"] == "trace":
        _check_members(value, "kind inputs outputs ring_size images used")
        return Trace(**common, used=value["used"])
    raise ValueError("The answer's layout is of no known kind.")


def _check_members(value: dict[str, Any], names: str) -> None:
    """Refuse other members than those named: an unread member would change the digest and nothing else."""
    if set(value) != set(names.split()):
        raise ValueError("A layout has members that the format does not define.")


def _check(plan: Plan) -> None:
    """Refuse an untrusted plan that contradicts itself, before memory is allocated by its sizes."""
    if not (_has_whole_numbers(plan) and _has_finite_numbers(plan) and _fits_together(plan)):
        raise ParameterError("The plan contradicts itself: its layouts do not fit its ring, its chain or one another.")


def _has_whole_numbers(plan: Plan) -> bool:
    """Tell whether all counts are whole numbers of a sensible size; until then they cannot even be compared."""
    output = plan.output
    counts = [plan.parameters.ring_size, plan.width, plan.classes, plan.batch, output.inputs, output.images]
    counts += [output.outputs, output.ring_size]
    counts += [output.chunk, output.rows] if isinstance(output, Tile) else [output.used]
    steps: list[int] = []
    for layout in (stage.layout for stage in plan.stages):
        counts += [layout.inputs, layout.outputs, layout.slots, layout.images, layout.lanes, layout.parts, layout.size]
        steps += [*layout.baby, *layout.giant]
        if not isinstance(layout.shifted, bool):
            return False
    return (
        all(_whole(count) and 0 < count <= _LARGEST for count in counts)
        and all(_whole(step) and 0 < step < plan.parameters.slots for step in steps)
        and _whole(plan.answer.bits)
        and _whole(plan.answer.noise)
    )


def _has_finite_numbers(plan: Plan) -> bool:
    scales = [plan.input_scale, plan.output_scale, plan.gain, *(stage.weight_scale for stage in plan.stages)]
    # A scale or a value beyond the whole modulus leaves no room for anything else.
    whole = 2.0 ** sum(plan.parameters.data_bits)
    return (
        all(1 <= scale < whole for scale in scales)
        and 0 < plan.input_bound < whole
        and 0 < plan.precision < 1
        and 0 <= plan.error < whole
    )


def _fits_together(plan: Plan) -> bool:
    slots, ring, output = plan.parameters.slots, plan.parameters.ring_size, plan.output
    fits = plan.policy in POLICIES and _DIGEST.fullmatch(plan.head_digest) is not None
    fits = fits and output.ring_size == ring and output.outputs == plan.classes
    before = plan.width
    for stage in plan.stages:
        layout = stage.layout
        fits = fits and layout.slots == slots and layout.inputs == before and stage.degree in (2, 3, 4)
        fits = fits and layout.images >= plan.batch and _power(layout.images) and layout.images <= slots
        fits = fits and layout.parts in (1, 2)
        before = layout.outputs
    fits = fits and output.inputs == before and isinstance(output, Trace) == bool(plan.stages)
    if isinstance(output, Tile):
        fits = fits and output.images == plan.batch and output.images * output.chunk * output.rows <= ring
    else:
        fits = fits and output.used == plan.batch <= output.images and _power(output.images) and output.images <= slots
    fits = fits and 8 <= plan.answer.bits <= MAX_ANSWER_BITS
    fits = fits and 0 <= plan.answer.noise < 1 << (plan.parameters.modulus_bits[0] - 1)
    fits = fits and (plan.answer.noise > 0) == (plan.policy == "hidden")
    return fits and sum(stage.levels for stage in plan.stages) == plan.parameters.levels


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _power(value: int) -> bool:
    return value > 0 and value & (value - 1) == 0
