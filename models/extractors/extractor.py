"""The feature extractor: an ONNX network that onnxruntime evaluates at the client. Imports no torch."""

from collections.abc import Mapping
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from models.errors import DamagedBundle, InputError
from models.extractors.graph_checks import GraphShape, check_graph

KIND = "onnx"
VERSION = 1
TENSOR = "extractor.onnx"
"""The bundle's tensor that holds the file's bytes."""
WIDTHS = (16, 4096)
"""Feature widths that the encrypted head carries."""
Layout = Literal["NCHW", "NHWC"]
_APART = 1e-4
"""Largest difference between an image's features alone and among others, relative to the largest feature."""
_BATCH = 64
"""Images that go through a graph of open batch at once: memory stays bounded."""


class Extractor:
    """(N, channels, size, size) float32 -> (N, width) float32.

    Raises:
        DamagedBundle: the file is not a feed-forward network of bounded size, or not of this layout and width.
    """

    def __init__(self, content: bytes, *, layout: Layout = "NCHW") -> None:
        self.content = content
        self.layout: Layout = layout
        self.graph: GraphShape = check_graph(content)
        first, second, third = self.graph.sides
        self.channels, height, breadth = (first, second, third) if layout == "NCHW" else (third, first, second)
        self.size = height
        self.width = self.graph.width
        if self.channels not in (1, 3) or height != breadth:
            raise DamagedBundle(
                f"The extractor takes images of {height} x {breadth} pixels and {self.channels} channels (layout "
                f"{layout}). Expected square ones of 1 or 3 channels."
            )
        if not WIDTHS[0] <= self.width <= WIDTHS[1]:
            raise DamagedBundle(
                f"The extractor gives {self.width} features an image. {WIDTHS[0]} to {WIDTHS[1]} can be computed on "
                "under encryption."
            )

    def run(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Features of network input (N, channels, size, size).

        Raises:
            InputError: an array of another shape, or features that are not finite numbers.
        """
        expected = (self.channels, self.size, self.size)
        if pixels.ndim != 4 or pixels.shape[1:] != expected:
            wanted = ", ".join(map(str, expected))
            raise InputError(f"Network input has the shape {pixels.shape}; expected (N, {wanted}).")
        ordered = pixels if self.layout == "NCHW" else pixels.transpose(0, 2, 3, 1)
        given = np.ascontiguousarray(ordered, dtype=np.float32)
        step = self.graph.batch or _BATCH
        parts = [self._evaluate(given[start : start + step]) for start in range(0, len(given), step)]
        features = np.concatenate(parts) if parts else np.zeros((0, self.width), dtype=np.float32)
        if not np.isfinite(features).all():
            raise InputError("The extractor gives features that are not finite numbers. Such a network cannot be used.")
        return features

    def check_apart(self, image: NDArray[np.float32]) -> None:
        """Refuse a network in which an image's features depend on the images beside it.

        Otherwise a patient's class would change with whose images are classified in the same run.

        Args:
            image: (channels, size, size), network input.

        Raises:
            DamagedBundle: the features of an image alone are others than among the others, or in another order.
            InputError: as `run`.
        """
        pixels = np.stack([image, image / 2 + 1, -image]).astype(np.float32)
        together = self.run(pixels)
        backwards = self.run(pixels[::-1])[::-1]
        alone = np.concatenate([self.run(pixels[place : place + 1]) for place in range(len(pixels))])
        allowed = _APART * max(1.0, float(np.abs(alone).max()))
        if not (np.abs(together - alone) <= allowed).all() or not (np.abs(backwards - alone) <= allowed).all():
            raise DamagedBundle(
                "The network's features of an image depend on the images beside it, as with batch normalisation in "
                "training mode. Export the network for inference (in PyTorch: after module.eval())."
            )

    def to_json(self) -> dict[str, Any]:
        """The form that the bundle carries beside the file."""
        return {
            "kind": KIND,
            "version": VERSION,
            "opset": self.graph.opset,
            "layout": self.layout,
            "channels": self.channels,
            "size": self.size,
            "width": self.width,
        }

    def to_tensor(self) -> NDArray[np.uint8]:
        """The file's bytes as the tensor that the bundle carries."""
        return np.frombuffer(self.content, dtype=np.uint8)

    @classmethod
    def from_bundle(cls, description: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]) -> "Extractor":
        """Read what `to_json` and `to_tensor` gave.

        Raises:
            DamagedBundle: another kind or version, or a file that is not what the description says.
        """
        if description.get("kind") != KIND or description.get("version") != VERSION:
            raise DamagedBundle(
                f"The bundle's extractor is of the kind {description.get('kind')!r}, version "
                f"{description.get('version')!r}; this release reads {KIND}, version {VERSION}. Make it again."
            )
        layout, tensor = description.get("layout"), tensors.get(TENSOR)
        if layout not in ("NCHW", "NHWC") or tensor is None or tensor.dtype != np.uint8 or tensor.ndim != 1:
            raise DamagedBundle(f"The bundle's extractor lacks its layout or its file ('{TENSOR}'). Export it again.")
        extractor = cls(tensor.tobytes(), layout=layout)
        if extractor.to_json() != dict(description):
            raise DamagedBundle("The bundle's extractor is not the network that the bundle describes. Export it again.")
        return extractor

    def _evaluate(self, given: NDArray[np.float32]) -> NDArray[np.float32]:
        fixed = self.graph.batch
        short = 0 if fixed is None else fixed - len(given)
        if short:  # a graph of fixed batch is padded with zeros; their features are dropped
            given = np.concatenate([given, np.zeros((short, *given.shape[1:]), dtype=np.float32)])
        try:
            (features,) = self._session.run([self.graph.output], {self.graph.input: given})
        except Exception as error:  # onnxruntime has error classes for each status, with no common base
            raise InputError(f"The extractor cannot be evaluated ({_first_line(error)}).") from error
        values = np.asarray(features, dtype=np.float32)
        if values.size != len(given) * self.width:
            raise InputError(
                f"The extractor gives {values.size} features for {len(given)} images, where {self.width} an image were "
                "expected. It must treat each image by itself: export it for inference."
            )
        values = values.reshape(len(given), self.width)
        return values[: len(values) - short]

    @cached_property
    def _session(self) -> Any:
        import onnxruntime

        onnxruntime.set_default_logger_severity(4)  # errors are raised, so they need not be logged too
        options = onnxruntime.SessionOptions()
        # One thread: sums have one order whatever the machine, and several images can be read meanwhile.
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4
        try:
            return onnxruntime.InferenceSession(self.content, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # see above
            raise DamagedBundle(f"The extractor cannot be loaded by onnxruntime ({_first_line(error)}).") from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
