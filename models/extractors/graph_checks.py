"""Checks that an ONNX file is a feed-forward network of bounded size, before anything runs it.

The file may come from a stranger. It is parsed as protobuf, and refused unless it is a graph of known, stateless
operators of the standard set, without control flow, functions, external data or cycles, whose every intermediate value
has a known size. Source of the operators' meaning: onnx.ai/onnx/operators.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import onnx
from onnx import TensorProto

from models.errors import DamagedBundle

MAX_BYTES = 256 << 20
"""Largest size of the file in bytes."""
MAX_NODES = 20_000
MAX_VALUES = 1 << 28
"""Largest count of numbers in all intermediate results of one image: one gigabyte as float32."""
MAX_PRODUCTS = 1 << 37
"""Multiplications for one image, about 140 billion: a minute of one core."""
OPSETS = (13, 23)
"""Versions of the standard operator set that are read."""

OPERATORS = frozenset(
    [
        "Abs",
        "Add",
        "AveragePool",
        "BatchNormalization",
        "Cast",
        "Ceil",
        "Celu",
        "Clip",
        "Concat",
        "Constant",
        "ConstantOfShape",
        "Conv",
        "Div",
        "Elu",
        "Equal",
        "Erf",
        "Exp",
        "Expand",
        "Flatten",
        "Floor",
        "Gather",
        "GatherElements",
        "GatherND",
        "Gelu",
        "Gemm",
        "GlobalAveragePool",
        "GlobalMaxPool",
        "Greater",
        "GreaterOrEqual",
        "GroupNormalization",
        "HardSigmoid",
        "HardSwish",
        "Identity",
        "InstanceNormalization",
        "LRN",
        "LayerNormalization",
        "LeakyRelu",
        "Less",
        "LessOrEqual",
        "Log",
        "LogSoftmax",
        "LpNormalization",
        "MatMul",
        "Max",
        "MaxPool",
        "Mean",
        "Min",
        "Mish",
        "Mul",
        "Neg",
        "Not",
        "PRelu",
        "Pad",
        "Pow",
        "Range",
        "Reciprocal",
        "ReduceL2",
        "ReduceMax",
        "ReduceMean",
        "ReduceMin",
        "ReduceProd",
        "ReduceSum",
        "Relu",
        "Reshape",
        "Resize",
        "Selu",
        "Shape",
        "Sigmoid",
        "Sign",
        "Slice",
        "Softmax",
        "Softplus",
        "Softsign",
        "Split",
        "Sqrt",
        "Squeeze",
        "Sub",
        "Sum",
        "Tanh",
        "ThresholdedRelu",
        "Tile",
        "Transpose",
        "Unsqueeze",
        "Where",
    ]
)


@dataclass(frozen=True)
class GraphShape:
    """Input and output of a checked graph."""

    input: str
    output: str
    opset: int
    batch: int | None
    """Images that the graph takes at once; None: any number."""
    sides: tuple[int, int, int]
    """The other three lengths of the input, in its own order."""
    width: int
    """Features of an image."""


def check_graph(content: bytes) -> GraphShape:
    """Parse and check an ONNX file.

    Raises:
        DamagedBundle: anything else than a feed-forward network of bounded size from one image tensor to one feature
            vector; the text says what was found and what was expected.
    """
    model, opset = check_parts(content)
    if not OPSETS[0] <= opset <= OPSETS[1]:
        raise DamagedBundle(
            f"The extractor is of opset {opset}. Expected {OPSETS[0]} to {OPSETS[1]}: export it again, or give it to "
            "'he-infer import', which raises opsets from 7 on."
        )
    source, sides, batch = _input_of(model.graph)
    inferred = _infer(model, source.name)
    output, width = _output_of(inferred)
    _check_sizes(inferred)
    return GraphShape(source.name, output, opset, batch, sides, width)


def check_parts(content: bytes) -> tuple[onnx.ModelProto, int]:
    """Parse an ONNX file and check its parts, one by one; returns the model and its opset, which may be any.

    Raises:
        DamagedBundle: no ONNX file, or one with a loop, foreign operators, external data or oversized tensors.
    """
    if not content or len(content) > MAX_BYTES:
        raise DamagedBundle(f"The extractor has {len(content)} bytes; expected 1 to {MAX_BYTES}.")
    model = onnx.ModelProto()
    try:
        model.ParseFromString(content)
    except Exception as error:  # protobuf's decoder has several kinds of error
        raise DamagedBundle("The extractor is no ONNX file, or it is cut off.") from error
    opset = _check_kind(model)
    _check_nodes(model.graph.node)
    _check_tensors(model.graph)
    return model, opset


def _check_kind(model: onnx.ModelProto) -> int:
    if not model.HasField("graph") or not model.graph.node:
        raise DamagedBundle("The extractor is no ONNX network: it holds no nodes.")
    if model.functions or model.training_info:
        raise DamagedBundle("The extractor defines functions or training steps of its own. Export it for inference.")
    versions = {one.domain: one.version for one in model.opset_import}
    others = sorted(domain for domain in versions if domain not in ("", "ai.onnx"))
    if others:
        raise DamagedBundle(f"The extractor uses the operators of {', '.join(map(repr, others))}. Expected ONNX's own.")
    return int(versions.get("", versions.get("ai.onnx", 0)))


def _check_nodes(nodes: Iterable[onnx.NodeProto]) -> None:
    listed = list(nodes)
    if len(listed) > MAX_NODES:
        raise DamagedBundle(f"The extractor has {len(listed)} nodes; at most {MAX_NODES} are taken.")
    for node in listed:
        named = f"The extractor's node '{node.name or node.op_type}' is a {node.op_type}"
        if any(part.HasField("g") or part.graphs for part in node.attribute):
            raise DamagedBundle(f"{named}, which holds a graph of its own (a loop or a branch). That is not taken.")
        if node.domain not in ("", "ai.onnx") or node.op_type not in OPERATORS:
            raise DamagedBundle(f"{named}, which is not among the operators that a feed-forward network needs.")
        for part in node.attribute:
            for tensor in (part.t, *part.tensors) if part.HasField("t") or part.tensors else ():
                _check_tensor(tensor)
            if part.HasField("sparse_tensor") or part.sparse_tensors:
                raise DamagedBundle(f"{named} with a sparse tensor. Expected dense ones.")


def _check_tensors(graph: onnx.GraphProto) -> None:
    if graph.sparse_initializer:
        raise DamagedBundle("The extractor holds sparse tensors. Expected dense ones.")
    for tensor in graph.initializer:
        _check_tensor(tensor)


def _check_tensor(tensor: TensorProto) -> None:
    if tensor.data_location == TensorProto.EXTERNAL or tensor.external_data:
        raise DamagedBundle(
            f"The extractor's tensor '{tensor.name}' lies in a file of its own. Save the network as one file "
            "(external_data=False)."
        )
    count = 1
    for side in tensor.dims:
        if side < 0:
            raise DamagedBundle(f"The extractor's tensor '{tensor.name}' has a negative side.")
        count *= side
    if count > MAX_VALUES:
        raise DamagedBundle(f"The extractor's tensor '{tensor.name}' announces {count} numbers; at most {MAX_VALUES}.")


def _input_of(graph: onnx.GraphProto) -> tuple[onnx.ValueInfoProto, tuple[int, int, int], int | None]:
    constants = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in constants]
    if len(inputs) != 1:
        raise DamagedBundle(f"The extractor takes {len(inputs)} inputs. Expected one: the images.")
    kind = inputs[0].type.tensor_type
    sides = [_side(dimension) for dimension in kind.shape.dim]
    if kind.elem_type != TensorProto.FLOAT or len(sides) != 4 or None in sides[1:]:
        shown = " x ".join("?" if side is None else str(side) for side in sides)
        raise DamagedBundle(
            f"The extractor's input '{inputs[0].name}' is {shown or 'of no stated shape'}, type {kind.elem_type}. "
            "Expected four sides of float32, images x channels x height x width or images x height x width x channels, "
            "of which only the first may be left open."
        )
    known = [int(side) for side in sides[1:] if side is not None]
    if min(known) < 1 or max(known) > 4096 or (sides[0] is not None and not 1 <= sides[0] <= 4096):
        raise DamagedBundle("The extractor's input has a side of less than 1 or more than 4096.")
    return inputs[0], (known[0], known[1], known[2]), sides[0]


def _side(dimension: Any) -> int | None:
    return int(dimension.dim_value) if dimension.HasField("dim_value") else None


def _infer(model: onnx.ModelProto, source: str) -> onnx.ModelProto:
    """The model with the shape of every value, for a batch of one image where the batch is open."""
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    for value in fixed.graph.input:
        first = value.type.tensor_type.shape.dim[0] if value.name == source else None
        if first is not None and not first.HasField("dim_value"):
            first.dim_value = 1
    try:
        onnx.checker.check_model(fixed)
        # Shapes that the file states are not trusted: they are inferred.
        del fixed.graph.value_info[:]
        for value in fixed.graph.output:
            value.type.tensor_type.ClearField("shape")
        return onnx.shape_inference.infer_shapes(fixed, check_type=True, strict_mode=True, data_prop=True)
    except Exception as error:  # the checker raises its own errors, and the library's C++ part others
        reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        raise DamagedBundle(f"The extractor is no valid ONNX network: {reason}") from error


def _output_of(model: onnx.ModelProto) -> tuple[str, int]:
    if len(model.graph.output) != 1:
        raise DamagedBundle(f"The extractor has {len(model.graph.output)} outputs. Expected one: the features.")
    (value,) = model.graph.output
    sides = [_side(dimension) for dimension in value.type.tensor_type.shape.dim]
    if len(sides) < 2 or None in sides[1:] or value.type.tensor_type.elem_type != TensorProto.FLOAT:
        raise DamagedBundle("The extractor's output is no float32 tensor of known size, images x features.")
    width = 1
    for side in sides[1:]:
        width *= int(side or 0)
    return value.name, width


def _check_sizes(model: onnx.ModelProto) -> None:
    shapes: dict[str, list[int]] = {tensor.name: list(tensor.dims) for tensor in model.graph.initializer}
    for value in (*model.graph.input, *model.graph.value_info, *model.graph.output):
        sides = [_side(dimension) for dimension in value.type.tensor_type.shape.dim]
        if value.type.HasField("tensor_type") and value.type.tensor_type.HasField("shape") and None not in sides:
            shapes[value.name] = [int(side or 0) for side in sides]
    total, products = 0, 0
    for node in model.graph.node:
        for name in node.output:
            if not name:
                continue
            if name not in shapes:
                raise DamagedBundle(
                    f"The size of what the extractor's node '{node.name or node.op_type}' gives is not known "
                    "beforehand. Export the network with a fixed image size."
                )
            total += _count(shapes[name])
        products += _products(node, shapes)
    if total > MAX_VALUES:
        raise DamagedBundle(f"The extractor needs {total} numbers for one image; at most {MAX_VALUES} are taken.")
    if products > MAX_PRODUCTS:
        raise DamagedBundle(f"The extractor multiplies {products} times for one image; at most {MAX_PRODUCTS}.")


def count_products(content: bytes) -> int:
    """Multiplications of convolutions and matrix products for one image.

    Raises:
        DamagedBundle: as `check_graph`.
    """
    shape = check_graph(content)
    inferred = _infer(onnx.load_from_string(content), shape.input)
    sizes: dict[str, list[int]] = {tensor.name: list(tensor.dims) for tensor in inferred.graph.initializer}
    for value in (*inferred.graph.input, *inferred.graph.value_info, *inferred.graph.output):
        sizes[value.name] = [_side(dimension) or 0 for dimension in value.type.tensor_type.shape.dim]
    return sum(_products(node, sizes) for node in inferred.graph.node) // (shape.batch or 1)


def _products(node: onnx.NodeProto, shapes: dict[str, list[int]]) -> int:
    if node.op_type not in ("Conv", "Gemm", "MatMul") or len(node.input) < 2:
        return 0
    given, weight = shapes.get(node.input[0], []), shapes.get(node.input[1], [])
    out = _count(shapes.get(node.output[0], []))
    if node.op_type == "Conv":
        return out * _count(weight[1:])
    return out * (given[-1] if given else 1)


def _count(sides: list[int]) -> int:
    total = 1
    for side in sides:
        total *= side
    return total
