"""Makes a bundle of a user's own ONNX extractor, with a head that is trained on its features or given as ONNX."""

import tomllib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from models.bundle import Bundle, put_in_order, versions
from models.card import make_card
from models.datasets.dataset import Dataset
from models.errors import DamagedBundle, InputError
from models.extractors.extractor import Extractor, Layout
from models.extractors.graph_checks import check_graph
from models.extractors.opset import raise_opset
from models.feature_table import BOUND, REACH, ROWS, bound_table, evaluate_table, measure_spread, tabulate
from models.guard import Guard
from models.heads.calibration import Calibration
from models.heads.from_onnx import from_onnx
from models.heads.prevalence import Prevalence
from models.images.preprocessing import Preprocessing

if TYPE_CHECKING:
    from models.training.head_training import FittedHead

Progress = Callable[[int, int], None]
TRAINED = ("linear", "mlp", "cubic")
"""Kinds of head that are trained on the features."""


@dataclass(frozen=True)
class Normalisation:
    """Mean and standard deviation of each channel that the network was trained with, in display units (0 to 1)."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @staticmethod
    def load(path: Path) -> "tuple[Normalisation, Layout | None]":
        """Read a TOML file that describes a network's input.

            mean = [0.485, 0.456, 0.406]
            std = [0.229, 0.224, 0.225]
            white = 1                     # optional: the number that white pixels had in training, 1 or 255
            layout = "NCHW"               # optional: order of the input's dimensions

        Raises:
            InputError: not TOML, an unknown member, or numbers that make no normalisation.
            OSError: the file cannot be read.
        """
        try:
            given = tomllib.loads(path.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
            raise InputError(f"{path} is no TOML file: {error}") from error
        unknown = sorted(set(given) - {"mean", "std", "white", "layout"})
        white, layout = given.get("white", 1), given.get("layout")
        lists = [given.get("mean"), given.get("std")]
        sound = all(isinstance(one, list) and one and all(type(v) in (int, float) for v in one) for one in lists)
        if unknown or not sound or white not in (1, 255) or layout not in (None, "NCHW", "NHWC"):
            found = f"the unknown member '{unknown[0]}'" if unknown else "members that make no normalisation"
            raise InputError(
                f"{path} has {found}. Expected mean and std (a list of one number a channel each), and optionally "
                "white (1 or 255) and layout (NCHW or NHWC)."
            )
        mean, std = (tuple(float(value) / white for value in given[name]) for name in ("mean", "std"))
        return Normalisation(mean, std), layout


def import_model(
    content: bytes,
    dataset: Dataset,
    *,
    normalisation: Normalisation | None = None,
    layout: Layout | None = None,
    head: str | bytes = "mlp",
    hidden: int = 64,
    seed: int = 0,
    prevalence: str = "training",
    policy: str = "hidden",
    name: str | None = None,
    progress: Progress | None = None,
) -> Bundle:
    """Make a bundle of an ONNX extractor.

    Its features are measured on the training images in one pass, standardised and bounded, by nodes that are
    appended to the network. Its weights stay as they are.

    Args:
        content: the ONNX file's bytes: images in, features out.
        dataset: train and validation images; the test images are not looked at.
        normalisation: what the network was trained with; measured on the training images by default.
        layout: `NCHW` or `NHWC`; found from the input's shape by default.
        head: one of TRAINED, a kind of head to train on the features (needs torch); or an ONNX head, as bytes, that was
            fitted on features as a bundle of this extractor gives them, standardised and bounded.
        hidden: size of the hidden layer of a trained head.
        seed: decides the head's training.
        prevalence: shares of the classes that a trained head's probabilities assume; see `Recipe.prevalence`.
        policy: `hidden` or `open`.
        name: the bundle's name.
        progress: called with the number of images done and their total.

    Raises:
        DamagedBundle: the file is no feed-forward network of bounded size, or treats several images together.
        InputError: its features are not finite, or never change; images that were resized to another size than its
            input when they were read.
        HeadError, TrainingError: the head cannot be converted or trained.
    """
    assumed = Prevalence.read(prevalence, dataset.classes)
    content = raise_opset(content)
    raw = Extractor(content, layout=layout or guess_layout(content))
    dataset.check_size(raw.size)
    if normalisation is None:
        preprocessing = Preprocessing.fit(dataset.train.images, size=raw.size, channels=raw.channels)
    else:
        preprocessing = Preprocessing(raw.size, raw.channels, "dataset", normalisation.mean, normalisation.std)
    raw.check_apart(preprocessing.apply(dataset.train.images[:1])[0])
    total = len(dataset.train) + len(dataset.val)
    done = 0

    def count(images: int) -> None:
        nonlocal done
        done += images
        if progress is not None:
            progress(done, total)

    def extract(images: NDArray[Any]) -> NDArray[np.float32]:
        return raw.run(preprocessing.apply(images))

    train, val = (tabulate(extract, split.images, count) for split in (dataset.train, dataset.val))
    mean, deviation = measure_spread(train)
    if not float(deviation.max()) > 0:
        raise InputError("The network gives the same features for every image. Check its weights and its input.")
    deviation = np.maximum(deviation, 1e-6 * float(deviation.max()))
    extractor = Extractor(bound_features(content, mean, deviation), layout=raw.layout)
    for table in (train, val):
        bound_table(table, mean, deviation)
    checked = extractor.run(preprocessing.apply(dataset.val.images[:8]))
    if not np.allclose(checked, val[:8], atol=1e-4):
        raise DamagedBundle("The bounded network gives other features than were computed from it.")
    calibration: Calibration | None = None
    measured: dict[str, Any] = {}
    if isinstance(head, bytes):
        converted = put_in_order(from_onnx(head, features=train[:ROWS]).head, dataset.classes)
        kind = "onnx"
    else:
        fitted = _train(head, train, val, dataset, hidden, seed, assumed)
        converted, calibration, kind = fitted.head, fitted.calibration, head
        measured = {
            "validation": {"accuracy": round(fitted.val_accuracy, 6)},
            "activation_range": [asdict(one) for one in fitted.ranges],
        }
    return Bundle(
        name=name or f"{dataset.name}-imported-{kind}",
        classes=dataset.classes,
        preprocessing=preprocessing,
        extractor=extractor,
        head=converted,
        input_bound=BOUND,
        policy=policy,
        training={
            "seed": seed,
            "head": kind,
            "data": {"name": dataset.name, "digest": dataset.digest},
            **measured,
            "calibration": None if calibration is None else calibration.to_json(),
        },
        versions=versions(),
        guard=Guard.fit(train, val),
        card=make_card(
            dataset,
            size=raw.size,
            scores=evaluate_table(converted, val),
            site=None if isinstance(head, bytes) else assumed.site,
        ),
    )


def find_size(content: bytes, layout: Layout | None = None) -> int:
    """Side in pixels of a network's input.

    Raises:
        DamagedBundle: the file is no network that can be imported.
    """
    content = raise_opset(content)
    return Extractor(content, layout=layout or guess_layout(content)).size


def guess_layout(content: bytes) -> Layout:
    """`NCHW` or `NHWC`, found from the position of the dimension of length 1 or 3.

    Raises:
        DamagedBundle: neither, or not a network.
    """
    first, _, last = check_graph(content).sides
    if first in (1, 3) and last not in (1, 3):
        return "NCHW"
    if last in (1, 3) and first not in (1, 3):
        return "NHWC"
    raise DamagedBundle(
        f"The network's input has the sides {check_graph(content).sides}: state its layout, NCHW or NHWC."
    )


def bound_features(content: bytes, mean: NDArray[np.float32], deviation: NDArray[np.float32]) -> bytes:
    """The network with its features standardised and bounded."""
    model = onnx.load_from_string(content)
    graph = model.graph
    (old,) = graph.output
    names = {
        part: f"he_infer.{part}" for part in ("flat", "mean", "less", "deviation", "scaled", "bent", "bound", "out")
    }
    values = {
        "mean": mean.astype(np.float32),
        "deviation": (deviation * BOUND).astype(np.float32),
        "bound": np.array(REACH, dtype=np.float32),
    }
    graph.initializer.extend(numpy_helper.from_array(value, names[part]) for part, value in values.items())
    steps = (
        ("Flatten", [old.name], "flat"),
        ("Sub", [names["flat"], names["mean"]], "less"),
        ("Div", [names["less"], names["deviation"]], "scaled"),
        ("Tanh", [names["scaled"]], "bent"),
        ("Mul", [names["bent"], names["bound"]], "out"),
    )
    graph.node.extend(helper.make_node(kind, given, [names[result]]) for kind, given, result in steps)
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info(names["out"], onnx.TensorProto.FLOAT, [None, len(mean)]))
    written: bytes = model.SerializeToString(deterministic=True)
    return written


def _train(
    kind: str,
    train: NDArray[np.float32],
    val: NDArray[np.float32],
    dataset: Dataset,
    hidden: int,
    seed: int,
    prevalence: Prevalence,
) -> "FittedHead":
    from models.training.head_training import fit_head

    return fit_head(train, val, dataset, kind=kind, hidden=hidden, seed=seed, prevalence=prevalence)
