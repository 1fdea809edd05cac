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

    from cipher.algorithm.network import Network
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
    """Steps 1.2 to 4.1: what is known before a word is changed."""

    counts: NDArray[np.int64]
    """(256,) histogram."""
    levels: int
    layers: int
    network: "Network"
    sheet: NDArray[np.uint64]
    """(4, 256): the first sheet of the confusion stage's key stream."""
    ranks: NDArray[np.int64]
    """(tiles down, tiles across): when each partition is taken."""


def cipher_stages(
    image: Annotated[str, typer.Argument(help="A DICOM, PNG or NumPy file, or the name of one of pydicom's.")],
    *,
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Where the pictures go.")],
) -> None:
    """Draw what each step of Algorithm 1 makes of an image, and how far a change of one bit has spread by then.

    Example: `he-experiments cipher-stages CT_small.dcm --out docs/images`
    """
    from experiments.image_cipher.images import load_image
    from experiments.present.drawing import save_picture
    from he_infer.errors import UsageError

    if not out.is_dir():
        raise UsageError(f"There is no folder {out}. Make it first.")
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
    from cipher.algorithm.features import Features
    from cipher.algorithm.geometry import TILE, grid_of
    from cipher.algorithm.key_schedule import Stage as KeyStage
    from cipher.algorithm.key_schedule import update_key
    from cipher.algorithm.keystream import KeyStream
    from cipher.algorithm.network import NEURONS, SHEET_INPUTS, create_network
    from cipher.algorithm.partition import select_partitions
    from cipher.algorithm.words import to_words

    geometry, engine = grid_of(pixels.shape, pixels.dtype.itemsize), best()
    counts = engine.histogram(to_words(pixels)[: geometry.block])
    features = Features.extract(counts)
    network = create_network(update_key(*_key_and_salt(), KeyStage.CONFUSION, geometry), features.hidden_layers())
    partitions = select_partitions(geometry, KeyStream(network, engine))
    ranks = np.argsort(np.argsort(partitions.tiles[:, 6]))
    across = -(-geometry.columns // TILE)
    return Preparation(
        counts,
        features.effective_levels,
        network.layers,
        network,
        engine.stream(network, 0, 1).reshape(NEURONS, SHEET_INPUTS),
        ranks.reshape(-1, across),
    )


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
    from cipher.algorithm.diffusion import alter_by_sweeps
    from cipher.algorithm.engine import best
    from cipher.algorithm.features import BASE_LAYERS, Features
    from cipher.algorithm.geometry import TILE, grid_of
    from cipher.algorithm.key_schedule import Stage as KeyStage
    from cipher.algorithm.key_schedule import update_key
    from cipher.algorithm.keystream import KeyStream
    from cipher.algorithm.network import create_network
    from cipher.algorithm.words import to_words
    from cipher.errors import UnsupportedImage

    engine, geometry = best(), grid_of(pixels.shape, pixels.dtype.itemsize)
    if min(geometry.rows, geometry.columns) < TILE:
        raise UnsupportedImage("The stages are drawn for images whose sides have 32 pixels or more.")

    def stream(stage: KeyStage, layers: int = BASE_LAYERS) -> KeyStream:
        return KeyStream(create_network(update_key(*_key_and_salt(), stage, geometry), layers), engine)

    words = to_words(pixels)
    plain = words.reshape(geometry.rows, geometry.columns)
    yield "cipher-1-plain.png", "1 the image as it is read", plain.copy()
    layers = Features.extract(engine.histogram(words)).hidden_layers()
    vector = scramble(words, geometry, stream(KeyStage.CONFUSION, layers), engine)
    by_column = vector.reshape(geometry.columns, geometry.rows)
    yield "cipher-4-scrambled.png", "4.2 partitions scrambled, 5.1 moved into a vector, column by column", by_column.T
    sweeps = alter_by_sweeps(by_column, stream(KeyStage.HORIZONTAL), engine, full_first=True)
    next(sweeps)
    yield "cipher-5-right.png", "5.2 altered horizontally, left to right", by_column.T
    next(sweeps)
    yield "cipher-6-left.png", "5.2 altered horizontally, right to left", by_column.T
    by_row = engine.transpose(by_column)
    sweeps = alter_by_sweeps(by_row, stream(KeyStage.VERTICAL), engine, full_first=False)
    next(sweeps)
    yield "cipher-7-down.png", "5.2 altered vertically, downwards, under a new key (5.3)", by_row
    next(sweeps)
    yield "cipher-8-up.png", "5.2 altered vertically, upwards: the cipher image", by_row


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
    from experiments.present.drawing import BLUE, draw_picture, show_image

    def paint(figure: "Figure") -> None:
        left, middle, right = figure.subplots(1, 3, width_ratios=[1.3, 0.8, 1.1])
        left.stairs(found.counts, np.arange(257), fill=True, color=BLUE)
        left.set_yscale("symlog", linthresh=100)
        left.set_title(f"1.2 feature: {found.levels} effective grey levels", fontsize=8)
        left.set_xlabel("folded byte")
        bits = np.unpackbits(found.network.weights.astype("<u8").reshape(found.layers, -1).view(np.uint8), axis=1)
        show_image(middle, bits.reshape(found.layers * 4, -1).T, f"weights' bits, {found.layers} layers", size=8)
        middle.set_aspect("auto")
        show_image(right, found.sheet.view(np.uint8).reshape(64, -1), "its first sheet of key stream", size=8)
        figure.suptitle("1.2 features · 1.3 network · 1.4 effective parameters · 3 hidden layers", fontsize=10)

    what = f"{found.levels} effective grey levels give the network {found.layers} layers"
    return draw_picture(paint, (8.4, 2.9), f"Steps 1.2 to 3: {what}; its weights' bits and its first key stream.")


def _partitions_picture(found: Preparation, plain: Stage) -> "Picture":
    from experiments.present.drawing import draw_picture, show_image

    def paint(figure: "Figure") -> None:
        left, right = figure.subplots(1, 2)
        show_image(left, plain.grid.astype(np.int64), "partitions of 32 x 32, and when each is taken", size=8)
        rows, columns = plain.grid.shape
        for row in range(0, rows, 32):
            left.axhline(row - 0.5, color="white", linewidth=0.8)
        for column in range(0, columns, 32):
            left.axvline(column - 0.5, color="white", linewidth=0.8)
        if found.ranks.size <= 100:
            for (down, across), rank in np.ndenumerate(found.ranks):
                box = {"facecolor": "white", "edgecolor": "none", "pad": 1.0}
                left.text(
                    32 * across + 15, 32 * down + 15, str(rank + 1), ha="center", va="center", fontsize=8, bbox=box
                )
        show_image(right, found.ranks, "order by the network's output: dark first", size=8)
        figure.suptitle("4.1 partitions selected by the network", fontsize=10)

    return draw_picture(paint, (7.0, 3.4), "Step 4.1: the partitions of the image, numbered in the network's order.")
