"""The classifier's head in the clear: linear layers, convolutions and polynomial activations. numpy only."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from he_infer.errors import HeadError
from he_infer.head.convolution import Convolution

MAX_WIDTH = 4096
MAX_DEGREE = 4
SQUARE = (0.0, 0.0, 1.0)
"""The coefficients of x^2, the only activation whose rescaling costs nothing."""


@dataclass(frozen=True, eq=False)
class Linear:
    """y = W x + b.

    weight: (out, in) float64; bias: (out,) float64.
    """

    weight: NDArray[np.float64]
    bias: NDArray[np.float64]

    def __post_init__(self) -> None:
        weight = np.array(self.weight, dtype=np.float64)
        bias = np.array(self.bias, dtype=np.float64)
        if weight.ndim != 2 or bias.shape != weight.shape[:1] or weight.size == 0:
            raise HeadError(
                f"A linear layer has weights {weight.shape} and bias {bias.shape}; expected (out, in) and (out,)."
            )
        if max(weight.shape) > MAX_WIDTH:
            raise HeadError(f"A linear layer has the shape {weight.shape}; at most {MAX_WIDTH} inputs and outputs.")
        if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
            raise HeadError("A linear layer holds weights that are not finite numbers. Train or export it again.")
        weight.setflags(write=False)
        bias.setflags(write=False)
        object.__setattr__(self, "weight", weight)
        object.__setattr__(self, "bias", bias)

    @property
    def inputs(self) -> int:
        """Length of x."""
        return int(self.weight.shape[1])

    @property
    def outputs(self) -> int:
        """Length of y."""
        return int(self.weight.shape[0])

    def __str__(self) -> str:
        return f"linear {self.inputs} to {self.outputs}"

    def evaluate(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """(n, inputs) -> (n, outputs)."""
        return np.asarray(values @ self.weight.T + self.bias)

    def bound(self, largest: float) -> float:
        """The largest absolute output for any inputs within +-largest."""
        return float((np.abs(self.weight).sum(axis=1) * largest + np.abs(self.bias)).max())

    def scaled(self, factors: NDArray[np.float64]) -> "Linear":
        """The layer with each output multiplied by its factor (out,)."""
        return Linear(self.weight * factors[:, None], self.bias * factors)

    @cached_property
    def largest(self) -> NDArray[np.float64]:
        """(out,) the largest absolute weights of the rows."""
        return np.asarray(np.abs(self.weight).max(axis=1))

    @cached_property
    def squares(self) -> NDArray[np.float64]:
        """(out, in) the squared weights."""
        return np.asarray(self.weight**2)

    @cached_property
    def norms(self) -> NDArray[np.float64]:
        """(out,) the squared norms of the rows."""
        return np.asarray(np.einsum("ij,ij->i", self.weight, self.weight))


@dataclass(frozen=True)
class Polynomial:
    """y = c0 + c1 x + ... + cd x^d, elementwise; coefficients in ascending order, the last one not zero."""

    coefficients: tuple[float, ...]
    rms: tuple[float, ...] | None = None
    """Root mean square of each input over the training images, for the planner's predictions; None: not measured."""

    def __post_init__(self) -> None:
        values = tuple(float(value) for value in self.coefficients)
        if not 3 <= len(values) <= MAX_DEGREE + 1 or values[-1] == 0.0 or not all(np.isfinite(values)):
            raise HeadError(
                f"An activation has the coefficients {values}; expected a polynomial of degree 2 to {MAX_DEGREE} with "
                "finite coefficients and a leading one that is not zero."
            )
        object.__setattr__(self, "coefficients", values)
        if self.rms is None:
            return
        sizes = tuple(float(size) for size in self.rms)
        if not all(0 <= size < np.inf for size in sizes):
            raise HeadError("An activation has sizes that are not numbers of 0 or more. Export the model again.")
        object.__setattr__(self, "rms", sizes)

    @property
    def degree(self) -> int:
        """The degree d."""
        return len(self.coefficients) - 1

    def __str__(self) -> str:
        return "x^2" if self.coefficients == SQUARE else f"polynomial of degree {self.degree}"

    def evaluate(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Map (n, values) to (n, values), each value separately."""
        return self(values)

    def bound(self, largest: float) -> float:
        """The largest absolute output for any inputs within +-largest, by the triangle inequality."""
        return sum(abs(c) * largest**power for power, c in enumerate(self.coefficients))

    def steepest(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Bound the derivative's absolute value from above, for values within +-|x|."""
        result = np.zeros_like(x)
        for power in range(self.degree, 0, -1):
            result = result * np.abs(x) + power * abs(self.coefficients[power])
        return result

    def __call__(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Evaluate by Horner's rule."""
        result = np.full_like(x, self.coefficients[-1])
        for coefficient in reversed(self.coefficients[:-1]):
            result = result * x + coefficient
        return result


Affine = Linear | Convolution
Layer = Affine | Polynomial


@dataclass(frozen=True, eq=False)
class Head:
    """Alternating linear layers and activations; the first and the last layer are linear."""

    layers: tuple[Layer, ...]
    names: tuple[str, ...] | None = None
    """Names of the classes in the order of the scores, if they are stated. Not part of the digest."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple(self.layers))
        for index, layer in enumerate(self.layers):
            if isinstance(layer, Affine) != (index % 2 == 0):
                raise HeadError(
                    f"Layer {index} of the head is a {type(layer).__name__.lower()}; linear layers (or convolutions) "
                    "and activations must alternate, linear first. Merge neighbouring linear layers into one."
                )
        if len(self.layers) % 2 == 0:
            raise HeadError("The head must begin and end with a linear layer.")
        if self.names is not None and len(self.names) != self.classes:
            raise HeadError(f"The head has {self.classes} scores, but {len(self.names)} names of classes.")
        for before, activation in zip(self.layers[::2], self.layers[1::2], strict=False):
            rms = activation.rms if isinstance(activation, Polynomial) else None
            if isinstance(before, Affine) and rms is not None and len(rms) != before.outputs:
                raise HeadError(
                    f"An activation of {before.outputs} values has {len(rms)} sizes. Export the model again."
                )
        for index, (one, after) in enumerate(zip(self._affine, self._affine[1:], strict=False)):
            if one.outputs != after.inputs:
                raise HeadError(
                    f"Layer {2 * index} of the head gives {one.outputs} values, layer {2 * index + 2} takes "
                    f"{after.inputs}."
                )

    @property
    def _affine(self) -> tuple[Affine, ...]:
        return tuple(layer for layer in self.layers if not isinstance(layer, Polynomial))

    @property
    def linear(self) -> tuple[Linear, ...]:
        """The linear layers in order, each convolution as a sparse matrix.

        A convolution's outputs are put in the order that gives the fewest diagonals (`Convolution.places`). The next
        layer's columns are reordered in the same way, so that the scores do not change.
        """
        return self._lowered[0]

    @property
    def sizes(self) -> tuple[NDArray[np.float64] | None, ...]:
        """Measured root mean squares of each activation's inputs, in the order of `linear`; None: not measured."""
        return self._lowered[1]

    @cached_property
    def _lowered(self) -> tuple[tuple[Linear, ...], tuple[NDArray[np.float64] | None, ...]]:
        lowered: list[Linear] = []
        sizes: list[NDArray[np.float64] | None] = []
        place: NDArray[np.int64] | None = None
        room = 0
        affine = self._affine
        for index, layer in enumerate(affine):
            weight, bias = (
                (layer.matrix, layer.biases) if isinstance(layer, Convolution) else (layer.weight, layer.bias)
            )
            if place is not None:
                weight = _spread(weight, place, room, axis=1)
            place = None
            if (
                isinstance(layer, Convolution)
                and index < len(affine) - 1
                and _pad_count(layer.room) <= _pad_count(len(bias))
            ):
                place, room = layer.places, layer.room
                weight, bias = _spread(weight, place, room, axis=0), _spread(bias, place, room, axis=0)
            lowered.append(Linear(weight, bias))
            if index < len(affine) - 1:
                rms = self.activations[index].rms
                known = None if rms is None else np.array(rms)
                sizes.append(known if known is None or place is None else _spread(known, place, room, axis=0))
        return tuple(lowered), tuple(sizes)

    @property
    def activations(self) -> tuple[Polynomial, ...]:
        """The activations in order."""
        return tuple(layer for layer in self.layers if isinstance(layer, Polynomial))

    @property
    def width(self) -> int:
        """Length of the feature vector."""
        return self._affine[0].inputs

    @property
    def classes(self) -> int:
        """Number of scores."""
        return self._affine[-1].outputs

    def evaluate(self, x: NDArray[Any]) -> NDArray[np.float64]:
        """Compute the scores (n, classes) of features (n, width) in the clear, as reference."""
        values = np.asarray(x, dtype=np.float64)
        if values.ndim != 2 or values.shape[1] != self.width:
            raise HeadError(f"Features have the shape {values.shape}; the head takes (n, {self.width}).")
        for layer in self.layers:
            values = layer.evaluate(values)
        return values

    def evaluate_layers(self, x: NDArray[Any]) -> list[NDArray[np.float64]]:
        """Compute the values after each layer for features (n, width); the last ones are the scores."""
        values = np.asarray(x, dtype=np.float64)
        after = []
        for layer in self.layers:
            values = layer.evaluate(values)
            after.append(values)
        return after

    def bounds(self, input_bound: float) -> list[float]:
        """Return the largest absolute value that each layer can give for any features within +-input_bound.

        Computed by interval arithmetic: a guaranteed bound, usually far above real values.
        """
        bounds: list[float] = []
        for layer in self.layers:
            bounds.append(layer.bound(bounds[-1] if bounds else input_bound))
        return bounds

    def to_tensors(self) -> tuple[dict[str, NDArray[np.float64]], list[dict[str, Any]]]:
        """Return the tensors by name and the layers' JSON form, as a bundle holds them."""
        tensors: dict[str, NDArray[np.float64]] = {}
        layers: list[dict[str, Any]] = []
        for index, layer in enumerate(self.layers):
            if isinstance(layer, Polynomial):
                measured = {} if layer.rms is None else {"rms": list(layer.rms)}
                layers.append({"kind": "polynomial", "coefficients": list(layer.coefficients), **measured})
                continue
            names = {"weight": f"head.{index}.weight", "bias": f"head.{index}.bias"}
            tensors[names["weight"]], tensors[names["bias"]] = np.array(layer.weight), np.array(layer.bias)
            if isinstance(layer, Linear):
                layers.append({"kind": "linear", **names})
            else:
                shape = {"input": list(layer.shape), "stride": layer.stride, "padding": layer.padding}
                layers.append({"kind": "convolution", **names, **shape})
        return tensors, layers

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, NDArray[Any]], layers: Sequence[Mapping[str, Any]]) -> "Head":
        """Build the head that `to_tensors` described.

        Raises:
            HeadError: a layer has an unknown kind, or the layers do not fit together.
            KeyError: a tensor is missing.
        """
        try:
            return cls(tuple(_read_layer(tensors, layer) for layer in layers))
        except (TypeError, ValueError, OverflowError) as error:
            raise HeadError(f"The head's description holds something that is not a number ({error}).") from error

    @cached_property
    def digest(self) -> str:
        """SHA-256, in hex, of the layers' JSON and the tensors as little-endian float64."""
        tensors, layers = self.to_tensors()
        total = hashlib.sha256(json.dumps(layers, sort_keys=True, separators=(",", ":")).encode())
        for name in sorted(tensors):
            tensor = tensors[name]
            total.update(f"{name}{tensor.shape}".encode() + tensor.astype("<f8").tobytes())
        return total.hexdigest()


def _read_layer(tensors: Mapping[str, NDArray[Any]], layer: Mapping[str, Any]) -> Layer:
    match layer:
        case {"kind": "linear", "weight": str(weight), "bias": str(bias)}:
            return Linear(tensors[weight], tensors[bias])
        case {
            "kind": "convolution",
            "weight": str(weight),
            "bias": str(bias),
            "input": [int(c), int(h), int(w)],
            "stride": int(stride),
            "padding": int(padding),
        }:
            return Convolution(tensors[weight], tensors[bias], (c, h, w), stride, padding)
        case {"kind": "polynomial", "coefficients": [*coefficients], "rms": [*rms]}:
            return Polynomial(tuple(coefficients), tuple(rms))
        case {"kind": "polynomial", "coefficients": [*coefficients]} if "rms" not in layer:
            return Polynomial(tuple(coefficients))
        case {"kind": kind}:
            raise HeadError(
                f"The head holds a layer of the kind {kind!r} with {', '.join(sorted(map(str, layer)))}. Expected "
                "linear, convolution or polynomial, each with its members."
            )
        case _:
            raise HeadError("A layer in the head's description states no kind. Train or export the model again.")


def _spread(values: NDArray[np.float64], place: NDArray[np.int64], room: int, axis: int) -> NDArray[np.float64]:
    """Put values along an axis in their places of a longer axis, with zeros between them."""
    shape = list(values.shape)
    shape[axis] = room
    spread = np.zeros(shape)
    spread[(slice(None),) * axis + (place,)] = values
    return spread


def _pad_count(count: int) -> int:
    """Round up to a power of two, the length that a layer takes in a ciphertext."""
    return 1 << (count - 1).bit_length()
