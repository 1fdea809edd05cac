"""Small sets and files for the tests of models."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pydicom
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from models.datasets import Dataset, Split
from models.extractors.extractor import Extractor


def split(count: int, seed: int, *, side: int = 16, classes: int = 2) -> Split:
    """Noise with a bright square whose corner tells the class: quickly learned."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    images = random.integers(0, 110, (count, side, side)).astype(np.uint8)
    half = side // 2
    for image, label in zip(images, labels, strict=True):
        top, left = half * (label % 2), half * (label // 2)
        image[top : top + half, left : left + half] += 90
    return Split(images, labels.astype(np.int64))


def toy(*, train: int = 192, side: int = 16, classes: int = 2) -> Dataset:
    """A set that is learned in a few passes."""
    names = tuple(f"corner {n}" for n in range(classes))
    parts = [split(n, seed, side=side, classes=classes) for seed, n in enumerate((train, 48, 64))]
    return Dataset("toy", names, "multi-class", *parts, orientation="fixed")


def arrays(**changes: Any) -> dict[str, NDArray[Any]]:
    """The arrays of an `.npz` file in MedMNIST's layout."""
    values: dict[str, NDArray[Any]] = {}
    for seed, (name, count) in enumerate((("train", 24), ("val", 8), ("test", 8))):
        part = split(count, seed)
        values[f"{name}_images"], values[f"{name}_labels"] = part.images, part.labels[:, None].astype(np.uint8)
    return values | changes


def npz(path: Path, **changes: Any) -> Path:
    """Write such a file."""
    np.savez(path, **arrays(**changes))
    return path


def png(path: Path, pixels: NDArray[Any]) -> Path:
    """Write a picture, and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def dicom(path: Path, pixels: NDArray[np.uint16], *, patient: str = "", **elements: Any) -> Path:
    """Write a grey DICOM image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset(None, {}, file_meta=meta, preamble=bytes(128))
    dataset.SOPClassUID, dataset.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    dataset.PatientID = patient
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 0
    dataset.PixelData = pixels.astype("<u2").tobytes()
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    dataset.save_as(path, enforce_file_format=True)
    return path


def report(path: Path) -> Path:
    """Write a DICOM object without pixels."""
    dicom(path, np.zeros((8, 8), dtype=np.uint16))
    dataset = pydicom.dcmread(path)
    del dataset.PixelData
    dataset.save_as(path)
    return path


def filled(shape: tuple[int, ...], start: int) -> NDArray[np.float64]:
    """Numbers that need no generator: multiples of 1/16 between -1 and 1."""
    return (((np.arange(int(np.prod(shape))) * 7 + start) % 33) - 16).reshape(shape) / 16


def graph_model(
    *,
    size: int = 8,
    channels: int = 1,
    width: int = 16,
    batch: int | str = "batch",
    nhwc: bool = False,
    scale: float = 4.0,
) -> onnx.ModelProto:
    """A small network as another tool may write it: convolution, ReLU, a linear layer, bound * tanh."""
    half = size // 2
    weights = {
        "kernel": filled((2, channels, 3, 3), 1),
        "project": filled((width, 2 * half * half), 2) / 4,
        "shift": filled((width,), 3),
        "bound": np.array(scale),
    }
    given = [batch, size, size, channels] if nhwc else [batch, channels, size, size]
    nodes = [
        *([helper.make_node("Transpose", ["images"], ["maps"], perm=[0, 3, 1, 2])] if nhwc else []),
        helper.make_node(
            "Conv", ["maps" if nhwc else "images", "kernel"], ["convolved"], strides=[2, 2], pads=[1, 1, 1, 1]
        ),
        helper.make_node("Relu", ["convolved"], ["positive"]),
        helper.make_node("Flatten", ["positive"], ["flat"]),
        helper.make_node("Gemm", ["flat", "project", "shift"], ["projected"], transB=1),
        helper.make_node("Tanh", ["projected"], ["bent"]),
        helper.make_node("Mul", ["bent", "bound"], ["features"]),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, given)],
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, [batch, width])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9, producer_name="kit")


def small_extractor(**options: Any) -> Extractor:
    """The same as an extractor of a bundle."""
    layout: Any = "NHWC" if options.get("nhwc") else "NCHW"
    return Extractor(graph_model(**options).SerializeToString(deterministic=True), layout=layout)


def one_against_the_rest(estimator: Any) -> bytes:
    """A linear OneVsRestClassifier as a head in ONNX: logistic functions, divided by their sum."""
    weights = np.concatenate([one.coef_ for one in estimator.estimators_])
    biases = np.concatenate([one.intercept_ for one in estimator.estimators_])
    nodes = [
        helper.make_node(
            "LinearClassifier",
            ["x"],
            ["label", "raw"],
            domain="ai.onnx.ml",
            coefficients=weights.ravel().tolist(),
            intercepts=biases.tolist(),
            classlabels_ints=[int(one) for one in estimator.classes_],
            post_transform="LOGISTIC",
        ),
        helper.make_node("Normalizer", ["raw"], ["probabilities"], domain="ai.onnx.ml", norm="L1"),
    ]
    graph = helper.make_graph(
        nodes,
        "head",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, weights.shape[1]])],
        [
            helper.make_tensor_value_info("label", TensorProto.INT64, [None]),
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, len(weights)]),
        ],
    )
    sets = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 3)]
    content: bytes = helper.make_model(graph, opset_imports=sets, ir_version=9).SerializeToString()
    return content
