"""A torch module on feature vectors -> linear and polynomial layers, by tracing it, so that any style of it will do."""

import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx, nn

from models.errors import HeadError
from models.heads.conversion import Builder, Conversion
from models.heads.layers import Head, simplified
from models.heads.polynomial import Fit, Function
from models.heads.ranges import measured
from models.heads.trainable import LinearHead, PolynomialHead

_IGNORED = (nn.Dropout, nn.Identity, nn.Flatten)
"""Modules that do nothing to a feature vector once training is over."""

_FITTED: dict[type[nn.Module], str] = {
    nn.ReLU: "relu",
    nn.GELU: "gelu",
    nn.SiLU: "silu",
    nn.ELU: "elu",
    nn.LeakyReLU: "leaky relu",
    nn.Tanh: "tanh",
    nn.Sigmoid: "sigmoid",
    nn.Softplus: "softplus",
}
_REMEDY = (
    "A head may hold Linear, BatchNorm1d, Dropout, squares and powers up to 4 of the values, and, with calibration "
    "features, common activations. Move anything else into the extractor."
)


def from_torch(
    module: nn.Module,
    *,
    features: NDArray[Any] | None = None,
    classes: Sequence[str] | None = None,
    degree: int = 3,
) -> Conversion:
    """Turn a trained torch module (N, width) -> (N, classes) into a head. A softmax at its end is left out.

    Args:
        module: the head, for example `nn.Sequential(nn.Linear(512, 64), nn.ReLU(), nn.Linear(64, 2))`, or a module
            of one's own with `h * h`, `h ** 2` or `torch.square(h)`.
        features: calibration features (N, width); needed where an activation is not a polynomial. With them hidden
            values are measured, by which errors under encryption are predicted.
        classes: names of the classes; numbers by default.
        degree: degree, 2 to 4, of the polynomials that replace activations.

    Raises:
        HeadError: a layer that cannot be computed under encryption; it names the layer and the remedy.
    """
    module = module.eval()
    if isinstance(module, nn.Linear):
        module = nn.Sequential(module)  # a layer alone is traced into its arithmetic
    if isinstance(module, LinearHead | PolynomialHead):
        head = module.export() if features is None else measured(module.export(), features)
        fits: tuple[Fit, ...] = ()
    else:
        builder = Builder(features, degree)
        _walk(builder, module)
        head, fits = Head(simplified(builder.layers)), tuple(builder.fits)
    names = tuple(classes) if classes is not None else tuple(f"class {n}" for n in range(head.classes))
    if features is None:
        return Conversion(head, names, fits)
    with torch.inference_mode():
        given = module(torch.from_numpy(np.asarray(features, dtype=np.float32)))
    wanted = np.asarray((given[0] if isinstance(given, tuple) else given).double().numpy())
    reached = head.evaluate(features)
    if _ends_in_softmax(module):
        wanted = np.log(np.maximum(wanted, 1e-300))
        wanted = wanted - wanted.mean(axis=1, keepdims=True)
        compared = reached - reached.mean(axis=1, keepdims=True)
    else:
        compared = reached
    return Conversion(
        head,
        names,
        fits,
        score_error=float(np.abs(wanted - compared).max()),
        label_agreement=float((wanted.argmax(axis=1) == reached.argmax(axis=1)).mean()),
    )


def _walk(builder: Builder, module: nn.Module) -> None:
    try:
        graph = fx.symbolic_trace(module)
    except Exception as error:  # tracing runs the module's own code, which may raise anything
        raise HeadError(
            f"{type(module).__name__} cannot be traced ({type(error).__name__}): its steps depend on values. {_REMEDY}"
        ) from error
    last: fx.Node | None = None
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
        if node.op == "call_module":
            _layer(builder, str(node.target), graph.get_submodule(str(node.target)))
        else:
            _function(builder, node)
        last = node


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
        if layer.affine:
            scale, shift = scale * layer.weight.detach().double(), shift * layer.weight.detach().double()
            shift = shift + layer.bias.detach().double()
        builder.linear(np.diag(scale.numpy()), shift.numpy())
    elif isinstance(layer, nn.Softmax | nn.LogSoftmax):
        return  # monotone: the order of the scores is the same without it
    elif type(layer) in _FITTED:
        builder.activation(_FITTED[type(layer)], _on_arrays(layer))
    elif not isinstance(layer, _IGNORED):
        raise HeadError(f"The layer '{name}' is a {type(layer).__name__}, which a head cannot hold. {_REMEDY}")


def _function(builder: Builder, node: fx.Node) -> None:
    target = node.target if node.op == "call_function" else getattr(torch.Tensor, str(node.target), node.target)
    arguments = node.args[1:]
    square = target in (torch.square, torch.Tensor.square) or (
        target in (operator.mul, torch.mul, torch.Tensor.mul) and node.args[0] is arguments[0]
    )
    if square:
        builder.polynomial((0.0, 0.0, 1.0))
    elif target in (operator.pow, torch.pow, torch.Tensor.pow) and arguments and arguments[0] in (2, 3, 4):
        builder.polynomial((*[0.0] * int(str(arguments[0])), 1.0))
    elif target in (torch.relu, nn.functional.relu, torch.Tensor.relu):
        builder.activation("relu", lambda x: np.maximum(x, 0))
    elif target in (torch.tanh, torch.Tensor.tanh):
        builder.activation("tanh", np.tanh)
    elif target in (torch.sigmoid, torch.Tensor.sigmoid):
        builder.activation("sigmoid", lambda x: 1 / (1 + np.exp(-x)))
    else:
        raise HeadError(
            f"The step '{node.name}' ({getattr(target, '__name__', target)}) cannot be in a head. {_REMEDY}"
        )


def _on_arrays(layer: Callable[[torch.Tensor], torch.Tensor]) -> Function:
    def function(values: NDArray[np.float64]) -> NDArray[np.float64]:
        with torch.inference_mode():
            return np.asarray(layer(torch.from_numpy(np.asarray(values, dtype=np.float64))).numpy())

    return function


def _ends_in_softmax(module: nn.Module) -> bool:
    children = [child for child in module.modules() if not list(child.children())]
    return bool(children) and isinstance(children[-1], nn.Softmax)
