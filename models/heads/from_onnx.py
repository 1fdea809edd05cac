"""A classifier head as an ONNX file (of skl2onnx, or Gemm and MatMul with activations) -> linear and polynomial layers.

The graph must be a chain from the feature vector to the scores. The head is compared with onnxruntime's scores.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from models.errors import HeadError
from models.heads.conversion import Builder, Conversion, compare
from models.heads.polynomial import Function

MAX_BYTES = 64 << 20
_TOLERANCE = 1e-3
"""Relative difference of scores that float32 may explain, in which onnxruntime computes."""
_IGNORED = frozenset({"Identity", "Cast", "Flatten", "Dropout", "Reshape", "Normalizer", "ZipMap"})
_FITTED: dict[str, Function] = {
    "Relu": lambda x: np.maximum(x, 0),
    "Tanh": np.tanh,
    "Sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "Softplus": lambda x: np.logaddexp(0, x),
    "Elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
}
_SUPPORTED = (
    "Gemm, MatMul, Add, Sub, Mul, Div with constants, Pow up to 4, Scaler, LinearClassifier, Softmax at the end, and, "
    "with calibration features, Relu, Tanh, Sigmoid, Softplus, Elu"
)


def from_onnx(
    content: bytes, *, features: NDArray[Any] | None = None, classes: Sequence[str] | None = None, degree: int = 3
) -> Conversion:
    """Turn an ONNX head into layers.

    Args:
        content: the file's bytes.
        features: calibration features (N, width); needed where an activation is not a polynomial.
        classes: names of the classes; those of a LinearClassifier by default.
        degree: degree, 2 to 4, of the polynomials that replace activations.

    Raises:
        HeadError: not an ONNX file (a pickled estimator, say), a node that a head cannot hold, or a head that gives
            other scores than onnxruntime.

    Warns:
        ProbabilitiesDiffer: the file's probabilities are not the softmax of its scores, as those of one against the
            rest.
    """
    model = _parse(content)
    walker = _Walker(model, Builder(features, degree))
    walker.walk()
    names = tuple(classes or walker.classes)
    head = walker.builder.head(names)
    ending = walker.ending

    def scores(given: NDArray[np.float64]) -> NDArray[np.float64]:
        values = _evaluate(content, given)
        if values.shape[1] == 1:
            return np.hstack([1 - values, values] if ending else [-values / 2, values / 2])
        return np.exp(values) if ending == "LogSoftmax" else values

    return compare(
        head,
        walker.builder.fits,
        features,
        scores,
        "the ONNX head",
        probabilities=bool(ending),
        tolerance=_TOLERANCE,
        by_label=walker.by_label,
        stated=scores if walker.by_label else None,
    )


def _parse(content: bytes) -> onnx.ModelProto:
    if content[:1] == b"\x80" or content[:2] in (b"PK", b"\x1f\x8b", b"x\x9c"):
        raise HeadError(
            "This is a pickled or packed Python object (joblib, pickle, torch). Reading one can run any code, "
            "so it is refused. Convert the estimator with skl2onnx (to_onnx), or give it to from_sklearn in Python."
        )
    if not content or len(content) > MAX_BYTES:
        raise HeadError(f"The head has {len(content)} bytes; expected an ONNX file of 1 to {MAX_BYTES}.")
    model = onnx.ModelProto()
    try:
        model.ParseFromString(content)
    except Exception as error:  # protobuf's decoder has several kinds of error
        raise HeadError("The head is no ONNX file, or it is cut off.") from error
    if not model.graph.node:
        raise HeadError("The head is no ONNX network: it holds no nodes.")
    for tensor in model.graph.initializer:
        if tensor.data_location == TensorProto.EXTERNAL or tensor.external_data:
            raise HeadError(f"The head's tensor '{tensor.name}' lies in a file of its own. Save it as one file.")
    return model


def _evaluate(content: bytes, given: NDArray[np.float64]) -> NDArray[np.float64]:
    import onnxruntime

    try:
        onnxruntime.set_default_logger_severity(4)
        session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        results = session.run(None, {session.get_inputs()[0].name: given.astype(np.float32)})
    except Exception as error:  # onnxruntime has error classes for each status, with no common base
        reason = (str(error).strip().splitlines() or [""])[0][:200]
        raise HeadError(f"The ONNX head cannot be evaluated on the features ({reason}).") from error
    last = results[-1]
    if isinstance(last, list) and last and isinstance(last[0], Mapping):  # a ZipMap: one dictionary an image
        return np.array([list(row.values()) for row in last], dtype=np.float64)
    values = np.asarray(last, dtype=np.float64)
    return values.reshape(len(given), -1)


class _Walker:
    """Follows the chain of nodes and collects its layers."""

    def __init__(self, model: onnx.ModelProto, builder: Builder) -> None:
        self.builder = builder
        self.classes: tuple[str, ...] = ()
        self.ending = ""
        """Function that turns scores into probabilities at the end: `Softmax`, `LogSoftmax`, `Sigmoid`, or nothing."""
        self.by_label = False
        """Whether only the order of probabilities is that of the scores."""
        self._nodes = list(model.graph.node)
        self._constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        inputs = [value.name for value in model.graph.input if value.name not in self._constants]
        if len(inputs) != 1:
            raise HeadError(f"The ONNX head takes {len(inputs)} inputs. Expected one: the features.")
        self._value = inputs[0]

    def walk(self) -> None:
        """Collect all layers.

        Raises:
            HeadError: a node that is no part of a chain, or that a head cannot hold.
        """
        for node in self._nodes:
            if node.op_type == "Constant":
                self._constants[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
                continue
            if self._value not in node.input:
                if all(name in self._constants for name in node.input):
                    raise self._refusal(node, "computes with constants alone; simplify the graph first")
                if self.ending or self.classes:  # the labels' branch of a classifier
                    continue
                raise self._refusal(node, "uses an earlier value again (a shortcut or branch)")
            if self.ending and node.op_type not in _IGNORED and not self.classes:
                raise self._refusal(node, f"comes after a {self.ending}, which can only be left out at the very end")
            try:
                self._take(node)
            except (IndexError, KeyError, TypeError, ValueError) as error:
                raise self._refusal(node, f"cannot be read ({error})") from error

    def _take(self, node: onnx.NodeProto) -> None:
        settings = {part.name: onnx.helper.get_attribute_value(part) for part in node.attribute}
        kind, output = node.op_type, node.output[0]
        first = node.input[0] == self._value
        other = next((self._constants[name] for name in node.input if name in self._constants), None)
        if kind == "Gemm":
            self._gemm(node, settings)
        elif kind == "MatMul" and other is not None and first:
            self.builder.linear(other.T, np.zeros(other.shape[1]))
        elif kind in ("Add", "Sub", "Mul", "Div") and other is not None:
            self._elementwise(kind, np.asarray(other, dtype=np.float64).reshape(-1), first)
        elif kind == "Mul" and list(node.input) == [self._value] * 2:
            self.builder.polynomial((0.0, 0.0, 1.0))
        elif kind == "Pow" and other is not None and float(other.reshape(-1)[0]) in (1, 2, 3, 4):
            self.builder.polynomial((*[0.0] * int(other.reshape(-1)[0]), 1.0))
        elif kind == "Scaler":
            scale, offset = np.array(settings["scale"]), np.array(settings["offset"])
            self.builder.linear(np.diag(scale), -scale * offset)
        elif kind == "LinearClassifier":
            self._classifier(settings)
            output = node.output[1]
        elif kind in ("Softmax", "LogSoftmax"):
            if settings.get("axis", -1) not in (1, -1):
                raise self._refusal(node, "is over another axis than the classes")
            self.ending = kind
        elif kind == "Sigmoid" and node is self._nodes[-1]:
            self.ending = kind
        elif kind in _FITTED:
            self.builder.activation(kind, _FITTED[kind])
        elif kind not in _IGNORED:
            raise self._refusal(node, "is not among what a head can hold")
        self._value = output

    def _gemm(self, node: onnx.NodeProto, settings: Mapping[str, Any]) -> None:
        weight = np.asarray(self._constants[node.input[1]], dtype=np.float64)
        weight = weight if settings.get("transB", 0) else weight.T
        bias = np.asarray(self._constants[node.input[2]]) if len(node.input) > 2 and node.input[2] else 0.0
        shift = np.broadcast_to(np.ravel(bias) * settings.get("beta", 1.0), (len(weight),))
        if settings.get("transA", 0):
            raise self._refusal(node, "transposes the features")
        self.builder.linear(settings.get("alpha", 1.0) * weight, shift)

    def _elementwise(self, kind: str, other: NDArray[np.float64], first: bool) -> None:
        if kind == "Div" and not first:
            raise HeadError("The ONNX head divides a constant by its values, which is no polynomial.")
        factor = {"Mul": other, "Div": 1 / other if kind == "Div" else other}.get(kind, np.ones(1))
        shift = {"Add": other, "Sub": -other if first else other}.get(kind, np.zeros(1))
        if kind == "Sub" and not first:
            factor = -np.ones(1)
        if len(other) == 1:
            self.builder.affine(float(factor[0]), float(shift[0]))
        else:
            width = len(other)
            self.builder.linear(np.diag(np.broadcast_to(factor, width)), np.broadcast_to(shift, width))

    def _classifier(self, settings: Mapping[str, Any]) -> None:
        labels = settings.get("classlabels_strings") or settings.get("classlabels_ints") or ()
        self.classes = tuple(one.decode() if isinstance(one, bytes) else str(one) for one in labels)
        bias = np.array(settings.get("intercepts", [0.0] * len(labels)))
        weight = np.array(settings["coefficients"]).reshape(len(bias), -1)
        after = settings.get("post_transform", b"NONE").decode()
        if len(self.classes) == 2 and after == "LOGISTIC" and len(weight) == 2:
            # The second row is the decision z; the first its opposite. Two scores z/2 and -z/2 have the same softmax.
            weight, bias = weight[1:], bias[1:]
        self.builder.linear(weight, bias)
        self.ending = {"NONE": "", "SOFTMAX": "Softmax", "LOGISTIC": "Sigmoid"}.get(after, "Softmax")
        self.by_label = after == "LOGISTIC" and len(self.classes) > 2

    def _refusal(self, node: onnx.NodeProto, why: str) -> HeadError:
        return HeadError(
            f"The ONNX head's node '{node.name or node.op_type}' ({node.op_type}) {why}. Supported: {_SUPPORTED}."
        )
