"""Exports a torch module as the ONNX extractor of a bundle, and compares both on images. Imports torch."""

import contextlib
import io
import logging
import warnings

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from models.errors import DamagedBundle, InputError, TrainingError
from models.extractors.extractor import Extractor

OPSET = 18
TOLERANCE = 1e-5
"""Largest difference of a feature between torch and onnxruntime, relative to an image's largest one if beyond one: sums
of float32 in another order differ in proportion to their largest terms."""
_PROBES = 8


def export(module: nn.Module, *, channels: int, size: int, images: NDArray[np.float32] | None = None) -> Extractor:
    """Export a network and compare both on images.

    Args:
        module: (N, channels, size, size) -> (N, width).
        channels: 1 or 3.
        size: side in pixels.
        images: preprocessed images (N, channels, size, size) to compare on; random ones by default.

    Raises:
        TrainingError: the network cannot be exported, or the exported one gives other features.
        InputError: the network gives no feature vector.
    """
    module = module.eval()
    random = np.random.default_rng(0).normal(size=(_PROBES, channels, size, size)).astype(np.float32)
    probes = random if images is None or not len(images) else np.asarray(images, dtype=np.float32)
    with torch.inference_mode():
        expected = module(torch.from_numpy(np.ascontiguousarray(probes)))
    if not isinstance(expected, torch.Tensor) or expected.ndim != 2:
        raise InputError("The module must return one tensor of features, (N, width).")
    content = _to_onnx(module, torch.zeros(2, channels, size, size))
    try:
        extractor = Extractor(content)
        given = extractor.run(probes)
        extractor.check_apart(probes[0])
    except (DamagedBundle, InputError) as error:
        raise TrainingError(f"The network cannot be used as an extractor. {error}") from error
    wanted = expected.float().numpy()
    allowed = TOLERANCE * np.maximum(1, np.abs(wanted).max(axis=1, keepdims=True))
    if given.shape != wanted.shape or not (np.abs(given - wanted) <= allowed).all():
        raise TrainingError(
            f"The exported network gives other features than torch: they differ by up to "
            f"{float(np.abs(given - wanted).max()) if given.shape == wanted.shape else float('nan'):.2g}; "
            f"{TOLERANCE:g} is allowed. The network may use random numbers, or depend on the batch."
        )
    return extractor


def _to_onnx(module: nn.Module, example: torch.Tensor) -> bytes:
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")  # the exporter prints deprecation warnings
            program = torch.onnx.export(
                module,
                (example,),
                dynamo=True,
                verbose=False,
                input_names=["images"],
                output_names=["features"],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                opset_version=OPSET,
                external_data=False,
            )
    except Exception as error:  # tracing runs the module's own code, and the exporter has many kinds of error
        reason = (str(error).strip().splitlines() or [""])[0][:200]
        raise TrainingError(
            f"{type(module).__name__} cannot be exported to ONNX ({type(error).__name__}: {reason}). A network must "
            "not choose its steps by the values of an image."
        ) from error
    finally:
        logger.setLevel(level)
    if program is None:
        raise TrainingError(f"{type(module).__name__} cannot be exported to ONNX.")
    model = program.model_proto
    # The exporter records the source line of each node: it reveals local paths, and differs by machine.
    model.ClearField("metadata_props")
    model.producer_name, model.producer_version, model.doc_string = "he-infer", "", ""
    for part in (model.graph, *model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output):
        part.ClearField("doc_string")
        part.ClearField("metadata_props")
    for tensor in model.graph.initializer:
        tensor.ClearField("doc_string")
        tensor.ClearField("metadata_props")
    written: bytes = model.SerializeToString(deterministic=True)
    return written
