"""`he-experiments cipher-stages IMAGE`: Algorithm 1 stage by stage, a picture after each."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from cipher.algorithm.features import Features
    from cipher.algorithm.tiles import Division
    from cipher.algorithm.weights import Network
    from experiments.present.drawing import Picture

KEY_NAME = b"he-infer example key"
"""The pictures come from a fixed key, so that the same image gives the same pictures."""


@dataclass(frozen=True, slots=True, eq=False)
class Stage:
    """An image's words after a step of Algorithm 1."""

    file: str
    title: str
    grid: NDArray[np.unsignedinteger]
    """(rows, columns), as the image lies after the step."""
    touched: NDArray[np.bool_]
    """(rows, columns): which words a change of one bit, in the middle of the plain image, has reached."""


@dataclass(frozen=True, slots=True, eq=False)
class Preparation:
    """Results of steps 1.2 to 4.1, before a word is changed."""

    features: "Features"
    """Features of the upper half: they steer how the lower half is scrambled."""
    network: "Network"
    sheet: NDArray[np.uint64]
    """The first sheet of the key stream that scrambles the lower half."""
    ranks: NDArray[np.int64]
    """(rows, columns) of the lower half: when the partition that holds a word is taken within its strip."""
    division: "Division"


def cipher_stages(
    image: Annotated[str, typer.Argument(help="A DICOM, PNG or NumPy file, or the name of one of pydicom's.")],
    *,
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Where the pictures go.")],
) -> None:
    """Draw the image after each step of Algorithm 1, and how far a change of one bit has spread by then.

    Example: `he-experiments cipher-stages CT_small.dcm --out docs/images`
    """
    from experiments.image_cipher.images import load_image
    from experiments.present.drawing import save_picture
    from he_infer.errors import UsageError
    from he_infer.files import expect_writable

    if not out.is_dir():
        raise UsageError(f"There is no folder {out}. Make it first.")
    expect_writable(out / "cipher.png")
    loaded = load_image(image)
    for name, drawn in draw_stages(loaded.pixels):
        save_picture(out / name, drawn)
        typer.echo(f"{out / name}: {drawn.alternative}")


def draw_stages(pixels: NDArray[np.generic]) -> "Iterator[tuple[str, Picture]]":
    """All pictures, with their file names."""
    preparation, stages = prepare_image(pixels), list(run_stages(pixels))
    yield "cipher-1-plain.png", _picture_of(stages[0])
    yield "cipher-2-network.png", _preparation_picture(preparation)
    yield "cipher-3-partitions.png", _partitions_picture(preparation, stages[0])
    for stage in stages[1:]:
        yield stage.file, _picture_of(stage)


def prepare_image(pixels: NDArray[np.generic]) -> Preparation:
    """Steps 1.2 to 1.4, 3 and 4.1 on an image whose sides are at least 32.

    Raises:
        UnsupportedImage: of a type or shape that the cipher does not take.
    """
    from cipher.algorithm.engine import best
    from cipher.algorithm.engine.vectorised import place_tiles
    from cipher.algorithm.features import Features
    from cipher.algorithm.geometry import grid_of
    from cipher.algorithm.key_schedule import Stage as KeyStage
    from cipher.algorithm.key_schedule import extract_key, update_key
    from cipher.algorithm.network import create_network
    from cipher.algorithm.partition import divide
    from cipher.algorithm.weights import SHEET_INPUTS
    from cipher.algorithm.words import to_words

    geometry, engine = grid_of(pixels.shape, pixels.dtype.itemsize), best()
    grid = to_words(pixels)[: geometry.block].reshape(geometry.rows, geometry.columns)
    cut = geometry.rows // 2
    features = Features.extract(grid[:cut], engine)
    (subkey,) = update_key(extract_key(*_key_and_salt()), KeyStage.LOWER, geometry, features=features.label())
    network = create_network(subkey, features.layers(), features.nodes(), engine)
    lower = geometry.rows - cut
    division = divide(lower, geometry.columns, geometry.bits, features, network, engine)
    ranks = np.zeros((lower, geometry.columns), np.int64)
    for strip, (draws, _) in zip(division.strips, division.split_draws(), strict=True):
        places = place_tiles(draws, division.bands)
        order = np.argsort(np.argsort(places.reshape(-1))).reshape(places.shape)
        columns = np.repeat(order, strip.width, axis=1)
        ranks[:, strip.column : strip.column + columns.shape[1]] = np.repeat(columns, np.diff(division.bands), axis=0)
    sheet = np.zeros(network.nodes * SHEET_INPUTS, np.uint64)
    engine.add_stream(network, 0, sheet)
    return Preparation(features, network, sheet, ranks, division)


def run_stages(pixels: NDArray[np.generic]) -> Iterator[Stage]:
    """The plain image, then the image after each step that changes it.

    Raises:
        UnsupportedImage: of a type or shape that the cipher does not take.
        RuntimeError: the last stage is not what the cipher itself gives.
    """
    from cipher.algorithm.inner import encrypt_image
    from cipher.algorithm.words import to_words

    changed = np.array(pixels, copy=True)
    flat = changed.reshape(-1).view(np.uint8)
    flat[flat.size // 2 + changed.itemsize * (changed.shape[-1] // 2 if changed.ndim > 1 else 0)] ^= 1
    last = None
    for (name, title, grid), (_, _, other) in zip(_steps(pixels), _steps(changed), strict=True):
        last = grid
        yield Stage(name, title, grid.copy(), grid != other)
    whole = to_words(encrypt_image(pixels, *_key_and_salt()))
    if last is None or not np.array_equal(last.reshape(-1), whole[: last.size]):
        raise RuntimeError("The stages do not come to what the cipher gives: a defect of this experiment.")


def _steps(pixels: NDArray[np.generic]) -> Iterator[tuple[str, str, NDArray[np.unsignedinteger]]]:
    from cipher.algorithm.confusion import scramble
    from cipher.algorithm.diffusion import DiffusionKeys, alter_by_steps
    from cipher.algorithm.engine import best
    from cipher.algorithm.geometry import LEAST_SIDE, grid_of
    from cipher.algorithm.key_schedule import extract_key
    from cipher.algorithm.words import to_words
    from cipher.errors import UnsupportedImage

    engine, geometry = best(), grid_of(pixels.shape, pixels.dtype.itemsize)
    if min(geometry.rows, geometry.columns) < LEAST_SIDE:
        raise UnsupportedImage(f"The stages are drawn for images whose sides have {LEAST_SIDE} pixels or more.")
    words = to_words(pixels)
    grid = (geometry.rows, geometry.columns)
    yield "cipher-1-plain.png", "1 the image as it is read", words.reshape(grid).copy()
    vector = np.empty_like(words)
    image_key = extract_key(*_key_and_salt())
    scramble(words, vector, geometry, image_key, engine)
    yield "cipher-4-scrambled.png", "4.2 partitions scrambled, 5.1 moved into a vector", vector.reshape(grid)
    steps = alter_by_steps(vector.view(np.uint8).data, DiffusionKeys.derive(image_key, geometry), engine)
    titles = {
        "cipher-5-head.png": "5.2 altered horizontally: the body into the head",
        "cipher-6-streams.png": "5.3 the key updated, 5.2 altered vertically: the head into the body",
        "cipher-7-cipher.png": "5.2 altered horizontally again: the cipher image",
    }
    for (name, title), _ in zip(titles.items(), steps, strict=True):
        yield name, title, vector.reshape(grid)


def _key_and_salt() -> tuple[bytes, bytes]:
    import hashlib

    digest = hashlib.sha512(KEY_NAME).digest()
    return digest[:32], digest[32:48]


def _picture_of(stage: Stage) -> "Picture":
    """The image over its type's range (the plain one over its own), its bytes, and the reach of one changed bit."""
    from experiments.present.drawing import BLUE, draw_picture, show_image

    grid = stage.grid
    plain = stage.file == "cipher-1-plain.png"
    rearranged = stage.file == "cipher-4-scrambled.png"
    limits = None if plain or rearranged else (0.0, float(np.iinfo(grid.dtype).max))
    signed = grid.astype(np.int64)
    share = float(stage.touched.mean())

    def paint(figure: "Figure") -> None:
        left, middle, right = figure.subplots(1, 3, width_ratios=[1, 1.25, 1])
        show_image(left, signed, "image", limits=limits)
        for place in range(grid.itemsize):
            counts = np.bincount((signed.reshape(-1) >> 8 * place) & 255, minlength=256)
            label = None if grid.itemsize == 1 else ("low byte", "high byte")[place]
            middle.stairs(counts, np.arange(257), fill=place == 0, color=(BLUE, "#D55E00")[place], label=label)
        middle.set_title("histogram", fontsize=8)
        if plain or rearranged:
            middle.set_yscale("symlog", linthresh=100)
        middle.set_ylim(bottom=0)
        middle.set_xlabel("value")
        if grid.itemsize > 1:
            middle.legend(fontsize=7, facecolor="white", framealpha=1, loc="lower right")
        show_image(right, ~stage.touched, f"reached by one changed bit: {share:.2%}", limits=(0.0, 1.0))
        right.set_axis_on()
        right.set(xticks=[], yticks=[])
        right.spines[["top", "right"]].set_visible(True)
        figure.suptitle(stage.title, fontsize=10)

    reach = f"a change of one bit has reached {share:.2%} of the words"
    return draw_picture(paint, (8.4, 2.9), f"Step {stage.title}; {reach}.")


def _preparation_picture(found: Preparation) -> "Picture":
    from experiments.present.drawing import draw_picture, show_image

    features = found.features
    layers, nodes = found.network.layers, found.network.nodes

    def paint(figure: "Figure") -> None:
        parts = figure.subplots(1, 6)
        for part, (name, numbers) in zip(parts, _feature_maps(features), strict=False):
            show_image(part, np.array(numbers).reshape(4, 4), name, size=8)
        bits = np.unpackbits(found.network.weights.astype("<u8").reshape(layers, -1).view(np.uint8), axis=1)
        show_image(parts[4], bits.reshape(layers * nodes, -1).T, f"weights, {layers} layers of {nodes}", size=8)
        parts[4].set_aspect("auto")
        show_image(parts[5], found.sheet.view(np.uint8).reshape(64, -1), "first sheet of stream", size=8)
        figure.suptitle("1.2 features of the upper half · 1.3 network · 1.4 analysed · 3 layers and nodes", fontsize=10)

    what = f"the upper half's features give the lower half's network {layers} layers of {nodes} nodes"
    return draw_picture(paint, (10.2, 2.4), f"Steps 1.2 to 3: {what}; its weights' bits and its first key stream.")


def _feature_maps(features: "Features") -> tuple[tuple[str, tuple[int, ...]], ...]:
    return (
        ("means", features.means),
        ("variances", features.variances),
        ("gradients", features.gradients),
        ("levels", features.levels),
    )


def _partitions_picture(found: Preparation, plain: Stage) -> "Picture":
    from experiments.present.drawing import draw_picture, show_image

    division = found.division
    lower = plain.grid[len(plain.grid) - int(division.bands[-1]) :]

    def paint(figure: "Figure") -> None:
        left, right = figure.subplots(1, 2)
        show_image(left, lower.astype(np.int64), "the lower half, cut as the features and the network say", size=8)
        for row in division.bands[1:-1]:
            left.axhline(row - 0.5, color="white", linewidth=0.8)
        for strip in division.strips:
            for tile in range(strip.across + 1):
                left.axvline(strip.column + tile * strip.width - 0.5, color="white", linewidth=0.8)
        last = max(1, int(found.ranks.max()))  # shown grey: white would be lost on the page
        show_image(right, found.ranks, "order within each strip: dark first", limits=(0, 1.4 * last), size=8)
        figure.suptitle("4.1 partitions selected by the network", fontsize=10)

    return draw_picture(paint, (7.6, 2.9), "Step 4.1: the partitions of the lower half, and the network's order.")
