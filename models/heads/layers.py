"""The head that runs encrypted: linear layers, convolutions and polynomials, in float64.

Knows neither torch nor scikit-learn.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import DamagedBundle, HeadError
from models.heads.convolution import Convolution

Matrix = NDArray[np.float64]

DEGREES = (2, 4)
"""Degrees of a polynomial activation that the encrypted computation carries."""


@dataclass(frozen=True, eq=False)
class Linear:
    """y = weight x + bias; weight (out, in), bias (out,)."""

    weight: Matrix
    bias: Matrix

    def __str__(self) -> str:
        return f"linear {self.inputs} to {self.outputs}"

    @property
    def inputs(self) -> int:
        """Number of values in."""
        return int(self.weight.shape[1])

    @property
    def outputs(self) -> int:
        """Number of values out."""
        return int(self.weight.shape[0])

    def evaluate(self, values: Matrix) -> Matrix:
        """(N, inputs) -> (N, outputs)."""
        return values @ self.weight.T + self.bias

    def bound(self, of_input: float) -> float:
        """The largest absolute value that can come out for inputs within +-of_input."""
        return float((np.abs(self.weight).sum(axis=1) * of_input + np.abs(self.bias)).max())

    def scaled(self, factors: Matrix) -> "Linear":
        """Each output times its factor (out,)."""
        return Linear(self.weight * factors[:, None], self.bias * factors)


@dataclass(frozen=True)
class Polynomial:
    """y = c0 + c1 x + ... + cd x^d, on each value alone; coefficients ascending."""

    coefficients: tuple[float, ...]
    rms: tuple[float, ...] | None = None
    """The root mean square of each input over the training images; None: not measured. The evaluation does not need it;
    who plans the encrypted one predicts its error from it."""

    @property
    def degree(self) -> int:
        """The highest power."""
        return len(self.coefficients) - 1

    def __str__(self) -> str:
        return "x^2" if self.coefficients == (0.0, 0.0, 1.0) else f"polynomial of degree {self.degree}"


Affine = Linear | Convolution
Layer = Affine | Polynomial


@dataclass(frozen=True, eq=False)
class Head:
    """A sequence of layers from features (N, width) to scores (N, classes)."""

    layers: tuple[Layer, ...]

    def __post_init__(self) -> None:
        _check(self.layers)

    @property
    def width(self) -> int:
        """Number of features."""
        return _first(self.layers).inputs

    @property
    def classes(self) -> int:
        """Number of scores."""
        return _first(self.layers[::-1]).outputs

    def evaluate(self, features: NDArray[Any]) -> Matrix:
        """Scores (N, classes) of features (N, width), in the clear."""
        return self.activations(features)[-1]

    def activations(self, features: NDArray[Any]) -> list[Matrix]:
        """The values after each layer, the last being the scores."""
        values = np.asarray(features, dtype=np.float64)
        after = []
        for layer in self.layers:
            if not isinstance(layer, Polynomial):
                values = layer.evaluate(values)
            else:
                values = np.polynomial.polynomial.polyval(values, np.array(layer.coefficients))
            after.append(values)
        return after

    def bounds(self, input_bound: float) -> list[float]:
        """The largest absolute value that each layer can give for any features within +-input_bound.

        Interval arithmetic: a guarantee, and mostly far above what happens.
        """
        bound: float = input_bound
        largest = []
        for layer in self.layers:
            if not isinstance(layer, Polynomial):
                bound = layer.bound(bound)
            else:
                bound = sum(abs(c) * bound**power for power, c in enumerate(layer.coefficients))
            largest.append(bound)
        return largest

    def to_tensors(self) -> tuple[dict[str, Matrix], list[dict[str, Any]]]:
        """The tensors and the layer list of a bundle: `head.<i>.weight`, `head.<i>.bias`, float64."""
        tensors: dict[str, Matrix] = {}
        layers: list[dict[str, Any]] = []
        for index, layer in enumerate(self.layers):
            if not isinstance(layer, Polynomial):
                names = {"weight": f"head.{index}.weight", "bias": f"head.{index}.bias"}
                tensors[names["weight"]] = np.ascontiguousarray(layer.weight, dtype=np.float64)
                tensors[names["bias"]] = np.ascontiguousarray(layer.bias, dtype=np.float64)
                if isinstance(layer, Linear):
                    layers.append({"kind": "linear", **names})
                else:
                    shape = {"input": list(layer.shape), "stride": layer.stride, "padding": layer.padding}
                    layers.append({"kind": "convolution", **names, **shape})
            else:
                measured = {} if layer.rms is None else {"rms": list(layer.rms)}
                layers.append({"kind": "polynomial", "coefficients": list(layer.coefficients), **measured})
        return tensors, layers

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, NDArray[Any]], layers: Sequence[Mapping[str, Any]]) -> "Head":
        """Read back what `to_tensors` gave.

        Raises:
            DamagedBundle: a tensor is missing, a layer is of an unknown kind, or the shapes do not chain.
        """
        read: list[Layer] = []
        try:
            for layer in layers:
                if layer["kind"] in ("linear", "convolution"):
                    weight, bias = (np.asarray(tensors[layer[part]], dtype=np.float64) for part in ("weight", "bias"))
                if layer["kind"] == "linear":
                    read.append(Linear(weight, bias))
                elif layer["kind"] == "convolution":
                    c, h, w = (int(side) for side in layer["input"])
                    read.append(Convolution(weight, bias, (c, h, w), int(layer["stride"]), int(layer["padding"])))
                elif layer["kind"] == "polynomial":
                    rms = tuple(float(size) for size in layer["rms"]) if "rms" in layer else None
                    read.append(Polynomial(tuple(float(c) for c in layer["coefficients"]), rms))
                else:
                    raise DamagedBundle(
                        f"The bundle's head holds a layer of the kind {layer['kind']!r}. Expected linear, convolution "
                        "or polynomial."
                    )
            return cls(tuple(read))
        except (KeyError, TypeError, ValueError, HeadError) as error:
            raise DamagedBundle(f"The bundle's head contradicts itself ({error}). Export the bundle again.") from error


def simplified(layers: Sequence[Layer]) -> tuple[Layer, ...]:
    """Merge neighbouring linear layers into one, and fold polynomials of degree 1 into the layer before them."""
    merged: list[Layer] = []
    for layer in layers:
        last = merged[-1] if merged else None
        if isinstance(layer, Linear) and isinstance(last, Linear):
            merged[-1] = Linear(layer.weight @ last.weight, layer.weight @ last.bias + layer.bias)
        elif isinstance(layer, Polynomial) and layer.degree == 1 and isinstance(last, Linear):
            c0, c1 = layer.coefficients
            merged[-1] = Linear(c1 * last.weight, c1 * last.bias + c0)
        else:
            merged.append(layer)
    return tuple(merged)


def _first(layers: Sequence[Layer]) -> Affine:
    for layer in layers:
        if not isinstance(layer, Polynomial):
            return layer
    raise HeadError("A head needs at least one linear layer.")


def _check(layers: Sequence[Layer]) -> None:
    if not layers or isinstance(layers[0], Polynomial) or not isinstance(layers[-1], Linear):
        raise HeadError("A head must begin with a linear layer or a convolution and end with a linear layer.")
    width: int | None = None
    for index, layer in enumerate(layers):
        if isinstance(layer, Polynomial):
            if not DEGREES[0] <= layer.degree <= DEGREES[1] or not np.isfinite(layer.coefficients).all():
                raise HeadError(
                    f"Layer {index} is a polynomial of degree {layer.degree}. Finite coefficients and degrees "
                    f"{DEGREES[0]} to {DEGREES[1]} can be computed under encryption: choose a lower degree."
                )
            sizes = layer.rms
            if sizes is not None and (len(sizes) != width or not all(0 <= size < np.inf for size in sizes)):
                raise HeadError(
                    f"Layer {index} is a polynomial of {width} values with {len(sizes)} sizes. Expected as many, each "
                    "a number of 0 or more, or none."
                )
            continue
        if isinstance(layer, Linear) and (
            layer.weight.ndim != 2 or layer.bias.shape != (layer.weight.shape[0],) or 0 in layer.weight.shape
        ):
            raise HeadError(
                f"Layer {index} has a weight of shape {layer.weight.shape} and a bias of shape {layer.bias.shape}. "
                "Expected (out, in) and (out,)."
            )
        if width is not None and layer.inputs != width:
            raise HeadError(f"Layer {index} takes {layer.inputs} values, the one before it gives {width}.")
        if not (np.isfinite(layer.weight).all() and np.isfinite(layer.bias).all()):
            raise HeadError(f"Layer {index} holds numbers that are not finite: the training diverged.")
        width = layer.outputs
