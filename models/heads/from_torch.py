"""Converts a torch module on feature vectors to linear and polynomial layers by tracing it."""

import copy
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx, nn
from torch.nn import functional

from models.errors import HeadError
from models.heads.conversion import Builder, Conversion, compare
from models.heads.polynomial import Function
from models.heads.ranges import measured
from models.heads.trainable import LinearHead, PolynomialHead

_IGNORED = (nn.Dropout, nn.AlphaDropout, nn.Dropout1d, nn.Identity, nn.Flatten)
"""Modules that leave a feature vector unchanged in evaluation."""
_IGNORED_FUNCTIONS = (functional.dropout, torch.dropout, torch.flatten, torch.Tensor.flatten, torch.Tensor.contiguous)

_FITTED = (
    nn.ReLU,
    nn.ReLU6,
    nn.LeakyReLU,
    nn.ELU,
    nn.CELU,
    nn.SELU,
    nn.GELU,
    nn.SiLU,
    nn.Mish,
    nn.Hardswish,
    nn.Hardtanh,
    nn.Hardsigmoid,
    nn.Tanh,
    nn.Sigmoid,
    nn.LogSigmoid,
    nn.Softplus,
    nn.Softsign,
)
_FITTED_FUNCTIONS = {
    target: function
    for function, targets in (
        (torch.relu, (torch.relu, functional.relu, torch.Tensor.relu)),
        (torch.tanh, (torch.tanh, functional.tanh, torch.Tensor.tanh)),
        (torch.sigmoid, (torch.sigmoid, functional.sigmoid, torch.Tensor.sigmoid)),
        (functional.gelu, (functional.gelu,)),
        (functional.silu, (functional.silu,)),
        (functional.elu, (functional.elu,)),
        (functional.leaky_relu, (functional.leaky_relu,)),
        (functional.softplus, (functional.softplus,)),
    )
    for target in targets
}
_SOFTMAX_FUNCTIONS = (
    torch.softmax,
    functional.softmax,
    torch.Tensor.softmax,
    torch.log_softmax,
    functional.log_softmax,
    torch.Tensor.log_softmax,
)
_REMEDY = (
    "A head may hold Linear, BatchNorm1d, Dropout, squares and powers up to 4 of the values, sums and products with "
    "numbers, and, with calibration features, common activations; a softmax at its end is left out. Move anything "
    "else into the extractor."
)


def from_torch(
    module: nn.Module,
    *,
    features: NDArray[Any] | None = None,
    classes: Sequence[str] | None = None,
    degree: int = 3,
) -> Conversion:
    """Turn a trained torch module (N, width) -> (N, classes) into a head. A softmax at its end is left out.

    A module of one output, with or without a sigmoid at its end, becomes one of two scores. The head is compared with
    the module in float64, and refused where they differ.

    Args:
        module: the head, for example `nn.Sequential(nn.Linear(512, 64), nn.ReLU(), nn.Linear(64, 2))`, or a module
            of one's own with `h * h`, `h ** 2` or `torch.square(h)`. It is left as it is.
        features: calibration features (N, width); needed where an activation is not a polynomial. With them hidden
            values are measured, by which errors under encryption are predicted.
        classes: names of the classes, by which `Bundle.with_head` puts the scores in order; None: the bundle's order.
        degree: degree, 2 to 4, of the polynomials that replace activations.

    Raises:
        HeadError: a layer that cannot be computed under encryption; it names the layer and the remedy.
    """
    what = type(module).__name__
    try:
        original = copy.deepcopy(module).double().eval()
    except Exception as error:  # lazy or quantised modules, and any error of a user's own module
        raise HeadError(f"{what} cannot be copied in float64 ({type(error).__name__}). {_REMEDY}") from error
    builder = Builder(features, degree)
    names = tuple(classes or ())
    if isinstance(original, LinearHead | PolynomialHead):
        head, ending = original.export(), ""
        head = head if features is None else measured(head, features)
        head = type(head)(head.layers, names=names or None)
    else:
        traced = nn.Sequential(original) if isinstance(original, nn.Linear) else original
        ending = _walk(builder, traced)
        if ending == "sigmoid" and _outputs(builder) != 1:
            raise HeadError(
                f"{what} ends with a sigmoid of {_outputs(builder)} scores, which are not probabilities of one choice. "
                "Leave it out: scores of classes are compared with one another."
            )
        head = builder.head(names)

    def scores(given: NDArray[np.float64]) -> NDArray[np.float64]:
        return _scores(original, given, ending, what)

    return compare(head, builder.fits, features, scores, what, probabilities=bool(ending))


def _scores(module: nn.Module, given: NDArray[np.float64], ending: str, what: str) -> NDArray[np.float64]:
    """The module's scores, or its probabilities where it ends with a softmax or sigmoid: (N, classes)."""
    try:
        with torch.inference_mode():
            result = module(torch.from_numpy(given))
    except Exception as error:  # the module's own code
        raise HeadError(f"{what} cannot be evaluated in float64 on the features ({error}). {_REMEDY}") from error
    values = np.asarray((result[0] if isinstance(result, tuple) else result).double().numpy())
    if values.ndim == 2 and values.shape[1] == 1:
        return np.hstack([1 - values, values] if ending else [-values / 2, values / 2])
    return np.exp(values) if ending == "log_softmax" else values


def _outputs(builder: Builder) -> int:
    last = builder.layers[-1] if builder.layers else None
    return int(getattr(last, "outputs", 0))


def _walk(builder: Builder, module: nn.Module) -> str:
    """Collect the module's layers; returns the kind of its ending: `softmax`, `log_softmax`, `sigmoid` or nothing."""
    try:
        graph = fx.symbolic_trace(module)
    except Exception as error:  # tracing runs the module's own code, which may raise anything
        raise HeadError(
            f"{type(module).__name__} cannot be traced ({type(error).__name__}): its steps depend on values. {_REMEDY}"
        ) from error
    last: fx.Node | None = None
    ending = ""
    for node in graph.graph.nodes:
        if node.op == "placeholder":
            if last is not None:
                raise HeadError(f"{type(module).__name__} takes several inputs. A head takes the feature vector alone.")
            last = node
            continue
        if node.op == "output":
            if node.args[0] is not last:
                raise HeadError(f"{type(module).__name__} returns more than its last layer's scores. {_REMEDY}")
            continue
        used = {one for one in node.all_input_nodes if one is not last}
        if used:
            raise HeadError(f"The step '{node.name}' uses an earlier value again (a shortcut or branch). {_REMEDY}")
        found = _ending(node, graph)
        if ending and not _ignored(node, graph):
            raise HeadError(
                f"A {ending.replace('_', ' ')} stands before the step '{node.name}'. Under encryption it can only be "
                f"left out at the very end. {_REMEDY}"
            )
        if found == "sigmoid" and not _is_last(node, graph):
            found = ""
        if found:
            ending = found
        else:
            _step(builder, node, graph)
        last = node
    return ending


def _step(builder: Builder, node: fx.Node, graph: fx.GraphModule) -> None:
    try:
        if node.op == "call_module":
            _layer(builder, str(node.target), graph.get_submodule(str(node.target)))
        else:
            _function(builder, node)
    except HeadError:
        raise
    except (AttributeError, TypeError, ValueError, RuntimeError, IndexError) as error:
        raise HeadError(f"The step '{node.name}' cannot be read ({error}). {_REMEDY}") from error


def _function_of(node: fx.Node) -> Any:
    return node.target if node.op == "call_function" else getattr(torch.Tensor, str(node.target), node.target)


def _ignored(node: fx.Node, graph: fx.GraphModule) -> bool:
    if node.op == "call_module":
        return isinstance(graph.get_submodule(str(node.target)), _IGNORED)
    return _function_of(node) in _IGNORED_FUNCTIONS


def _is_last(node: fx.Node, graph: fx.GraphModule) -> bool:
    """Whether only steps that do nothing follow."""
    following = node
    while following.next.op != "output":
        following = following.next
        if not _ignored(following, graph):
            return False
    return True


def _ending(node: fx.Node, graph: fx.GraphModule) -> str:
    """`softmax`, `log_softmax` or `sigmoid` where the step is one; a softmax over the images is refused."""
    if node.op == "call_module":
        layer = graph.get_submodule(str(node.target))
        kinds = {nn.Softmax: "softmax", nn.LogSoftmax: "log_softmax", nn.Sigmoid: "sigmoid"}
        found = kinds.get(type(layer), "")
        axis = getattr(layer, "dim", 1)
    else:
        function = _function_of(node)
        if _FITTED_FUNCTIONS.get(function) is torch.sigmoid:
            return "sigmoid"
        found = function.__name__ if function in _SOFTMAX_FUNCTIONS else ""
        axis = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", 1)
    if found.endswith("softmax") and axis not in (1, -1):
        raise HeadError(f"The step '{node.name}' is a softmax over axis {axis}. Expected 1, the classes.")
    return found


def _layer(builder: Builder, name: str, layer: nn.Module) -> None:
    if isinstance(layer, nn.Linear):
        weight = layer.weight.detach().double().numpy()
        bias = np.zeros(len(weight)) if layer.bias is None else layer.bias.detach().double().numpy()
        builder.linear(weight, bias)
    elif isinstance(layer, nn.BatchNorm1d):
        if layer.running_mean is None or layer.running_var is None:
            raise HeadError(f"The layer '{name}' (BatchNorm1d) keeps no running statistics. Train it with them.")
        scale = 1 / (layer.running_var.double() + layer.eps).sqrt()
        shift = -layer.running_mean.double() * scale
        if layer.weight is not None:
            scale, shift = scale * layer.weight.detach().double(), shift * layer.weight.detach().double()
        if layer.bias is not None:
            shift = shift + layer.bias.detach().double()
        builder.linear(np.diag(scale.numpy()), shift.numpy())
    elif type(layer) in _FITTED:
        builder.activation(type(layer).__name__, _on_arrays(layer))
    elif not isinstance(layer, _IGNORED):
        raise HeadError(f"The layer '{name}' is a {type(layer).__name__}, which a head cannot hold. {_REMEDY}")


def _function(builder: Builder, node: fx.Node) -> None:
    target = _function_of(node)
    named = {key: value for key, value in node.kwargs.items() if key in ("input", "other", "exponent", "self")}
    operands = [*node.args, *named.values()]
    if _arithmetic(builder, target, operands):
        return
    if target in _FITTED_FUNCTIONS:
        settings = {key: value for key, value in node.kwargs.items() if key not in ("input", "inplace")}
        function = _FITTED_FUNCTIONS[target]
        builder.activation(function.__name__, _on_arrays(lambda x: function(x, *node.args[1:], **settings)))
        return
    if target in _IGNORED_FUNCTIONS:
        return
    raise HeadError(f"The step '{node.name}' ({getattr(target, '__name__', target)}) cannot be in a head. {_REMEDY}")


def _arithmetic(builder: Builder, target: Any, operands: list[Any]) -> bool:
    """Append a square, a power, or a sum or product with a number; False where the step is something else."""
    both = len(operands) == 2 and isinstance(operands[0], fx.Node) and operands[0] is operands[1]
    if target in (torch.square, torch.Tensor.square) or (both and target in _OPERATIONS["mul"]):
        builder.polynomial((0.0, 0.0, 1.0))
        return True
    if both and target in _OPERATIONS["add"]:
        builder.affine(2.0, 0.0)
        return True
    numbers = [one for one in operands if isinstance(one, int | float) and not isinstance(one, bool)]
    if target in (operator.neg, torch.neg, torch.Tensor.neg):
        builder.affine(-1.0, 0.0)
        return True
    if len(operands) != 2 or len(numbers) != 1:
        return False
    number, first = float(numbers[0]), isinstance(operands[0], fx.Node)
    if target in _OPERATIONS["pow"] and first and number in (1, 2, 3, 4):
        builder.polynomial((*[0.0] * int(number), 1.0))
    elif target in _OPERATIONS["mul"]:
        builder.affine(number, 0.0)
    elif target in _OPERATIONS["add"]:
        builder.affine(1.0, number)
    elif target in _OPERATIONS["sub"]:
        builder.affine(*((1.0, -number) if first else (-1.0, number)))
    elif target in _OPERATIONS["div"] and first and number != 0:
        builder.affine(1 / number, 0.0)
    else:
        return False
    return True


_OPERATIONS: dict[str, tuple[Any, ...]] = {
    "mul": (operator.mul, operator.imul, torch.mul, torch.multiply, torch.Tensor.mul, torch.Tensor.multiply),
    "add": (operator.add, operator.iadd, torch.add, torch.Tensor.add),
    "sub": (operator.sub, operator.isub, torch.sub, torch.Tensor.sub),
    "div": (operator.truediv, torch.div, torch.true_divide, torch.Tensor.div),
    "pow": (operator.pow, torch.pow, torch.Tensor.pow),
}


def _on_arrays(layer: Callable[[torch.Tensor], torch.Tensor]) -> Function:
    def function(values: NDArray[np.float64]) -> NDArray[np.float64]:
        with torch.inference_mode():
            return np.asarray(layer(torch.from_numpy(np.asarray(values, dtype=np.float64))).numpy())

    return function
