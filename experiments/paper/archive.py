"""Fig. 6d: chest X-rays compressed, encrypted, stored at a server, restored and classified encrypted.

The paper draws encryption before compression. That cannot compress: a cipher image has no redundancy left. So images
are compressed losslessly first, and the experiment measures both orders.
"""

import hashlib
import io
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from openjpeg.utils import decode as decode_array
from openjpeg.utils import encode_array
from PIL import Image as Pillow

from cipher.analysis.subject import Inner
from cipher.analysis.suite import Seeds
from cipher.container import api as container
from cipher.keys.vault_key import VaultKey
from experiments.bundles import load_or_train, load_set
from experiments.image_cipher.images import load_image
from experiments.paper.item import PaperRequest, PaperResult
from experiments.paper.service import compute_figures, describe_figures, run_service
from experiments.present.drawing import BLUE, HATCHES, ORANGE, Picture, draw_picture, show_image
from he_infer.terminal import show_progress

DATA = "pneumoniamnist"
RADIOGRAPH = "RG3_UNCR.dcm"
"""A radiograph of full size, on which compression is measured too."""

Pixels = NDArray[Any]


def encode_png(pixels: Pixels) -> bytes:
    """PNG, lossless; (H, W) of uint8 or uint16, or (H, W, 3) of uint8."""
    target = io.BytesIO()
    Pillow.fromarray(pixels).save(target, "PNG", optimize=True)
    return target.getvalue()


def decode_png(data: bytes) -> Pixels:
    """The pixels of a PNG that `png` wrote."""
    with Pillow.open(io.BytesIO(data), formats=("PNG",)) as opened:
        return np.asarray(opened)


def encode_jpeg_2000(pixels: Pixels) -> bytes:
    """Encode as a JPEG 2000 code stream with the reversible transform."""
    return bytes(encode_array(pixels))


def decode_jpeg_2000(data: bytes) -> Pixels:
    """The pixels of a code stream."""
    return np.asarray(decode_array(data))


Codec = tuple[Callable[[Pixels], bytes], Callable[[bytes], Pixels]]
CODECS: dict[str, Codec] = {
    "PNG": (encode_png, decode_png),
    "JPEG 2000, lossless": (encode_jpeg_2000, decode_jpeg_2000),
}
LEAST_SIDE = 32
"""Least side for the encoder's six resolutions of JPEG 2000; smaller images are left to PNG."""


def find_codecs(images: Sequence[Pixels]) -> dict[str, Codec]:
    """The codecs that take all of these images."""
    small = min(min(image.shape[:2]) for image in images) < LEAST_SIDE
    return {name: codec for name, codec in CODECS.items() if name == "PNG" or not small}


def find_smallest(images: Sequence[Pixels]) -> tuple[str, int]:
    """The codec that makes the fewest bytes of the images, and how many."""
    sizes = {name: sum(len(encode(image)) for image in images) for name, (encode, _) in find_codecs(images).items()}
    best = min(sizes, key=lambda name: sizes[name])
    return best, sizes[best]


def run_archive(request: PaperRequest) -> PaperResult:
    """Every test image: compress, seal, put into a real server's vault, get, open, decompress, classify encrypted."""
    dataset = load_set(request.data or DATA, request.bundle)
    bundle = load_or_train(request.console, dataset, request.bundle, epochs=request.epochs, seed=request.seed)
    test = dataset.test if request.limit is None else dataset.test.first(request.limit)
    images = test.images if test.images.dtype.kind == "u" else _octets(test.images)
    best, compressed = find_smallest(list(images))
    encode, decode = CODECS[best]
    key = VaultKey.generate()
    restored = []
    stored = exact = 0
    container.open_bytes(container.seal_bytes(encode(images[0]), key), key)  # compiling must not count as storing
    with run_service(bundle) as service:
        began = time.perf_counter()
        with show_progress("Stored and restored", len(images), console=request.console) as step:
            for index, image in enumerate(images):
                sealed = container.seal_bytes(encode(image), key)
                kept = service.client.session.put_object(sealed)
                stored += kept.size
                fetched = service.client.session.get_object(kept.id)
                restored.append(decode(container.open_bytes(fetched, key)))
                same = restored[-1].dtype == image.dtype and np.array_equal(restored[-1], image)
                exact += int(same and hashlib.sha256(sealed).hexdigest() == kept.sha256)
                step(index + 1)
        seconds = time.perf_counter() - began
        back = np.stack(restored)
        given = back if back.dtype == test.images.dtype else test.images
        with show_progress("Classified encrypted", len(given), console=request.console) as step:
            found = service.classify(given, step)
        figures = compute_figures(test.labels, bundle.scores(bundle.features(given)), found, service)
    large = load_image(request.image or RADIOGRAPH)
    orders = {
        "test images": _orders(list(images), request.seed),
        large.name: _orders([_unsigned(large.pixels)], request.seed),
    }
    figures |= {
        "restored_exactly": exact,
        "codec": best,
        "raw_bytes": int(images.nbytes),
        "compressed_bytes": compressed,
        "stored_bytes": stored,
        "seconds_to_store_and_restore": seconds,
        "orders": orders,
    }
    return PaperResult(
        title="Fig. 6d: chest X-rays compressed, encrypted, stored, restored, classified",
        parameters={
            "dataset": dataset.name,
            "digest": dataset.digest,
            "bundle": bundle.name,
            "limit": request.limit,
            "image": large.described,
        },
        figures=figures,
        picture=_draw(images[len(images) // 2], back[len(images) // 2], orders, request.seed),
        lines=(
            f"{exact} of {len(images)} images came back from the server's vault bit for bit, through {best}; "
            f"{seconds / len(images) * 1e3:.1f} ms an image to compress, seal, put, get, open and decompress.",
            *(
                f"{name}: compressed first {order['compressed']:.1%} of the raw bytes ({order['codec']}), encrypted "
                f"first {order['encrypted first']:.1%}."
                for name, order in orders.items()
            ),
            f"Sealed, the test images take {stored} bytes for {images.nbytes} raw: so small an image pays more for the "
            "container's header than compression saves.",
            describe_figures(figures),
        ),
    )


def _orders(images: list[Pixels], seed: int) -> dict[str, Any]:
    """Shares of the raw bytes after compressing the images, and after compressing their cipher images."""
    seeds, inner = Seeds(seed), Inner()
    best, compressed = find_smallest(images)
    encode, decode = CODECS[best]
    secret = [
        inner.encrypt(image, key, seeds.salt)
        for image, (_, key) in zip(images, seeds.keys("6d", len(images)), strict=True)
    ]
    raw = sum(image.nbytes for image in images)
    return {
        "codec": best,
        "raw_bytes": raw,
        "compressed": compressed / raw,
        "encrypted first": sum(len(encode(image)) for image in secret) / raw,
        "exact": all(np.array_equal(decode(encode(image)), image) for image in images),
    }


def _unsigned(pixels: Pixels) -> Pixels:
    """View pixels as unsigned numbers of the same bits, which both codecs take."""
    return np.ascontiguousarray(pixels).view(f"u{pixels.dtype.itemsize}")


def _octets(images: Pixels) -> Pixels:
    """Images in display units as 8 bits, the form for an archive."""
    return np.asarray(np.round(np.clip(images, 0, 1) * 255), dtype=np.uint8)


def _draw(image: Pixels, restored: Pixels, orders: dict[str, Any], seed: int) -> Picture:
    seeds = Seeds(seed)
    secret = Inner().encrypt(np.ascontiguousarray(image), seeds.key("6d", 0), seeds.salt)

    def draw(figure: Any) -> None:
        grid = figure.add_gridspec(1, 5, width_ratios=[1, 1, 1, 0.25, 2.1])
        for place, (pixels, title) in enumerate(
            ((image, "at the hospital"), (secret, "its cipher image"), (restored, "restored\nfrom the vault"))
        ):
            show_image(figure.add_subplot(grid[0, place]), pixels, title, size=10)
        axis = figure.add_subplot(grid[0, 4])
        ways = (("compressed", BLUE), ("encrypted first", ORANGE))
        for place, (way, colour) in enumerate(ways):
            at = np.arange(len(orders)) + 0.36 * (place - 0.5)
            shares = [100 * order[way] for order in orders.values()]
            name = "compressed, then encrypted" if place == 0 else "encrypted, then compressed"
            axis.bar(at, shares, 0.34, color=colour, hatch=HATCHES[place], edgecolor="white", label=name)
            for x, share in zip(at, shares, strict=True):
                axis.annotate(f"{share:.0f} %", (x, share), ha="center", va="bottom", fontsize=9)
        axis.axhline(100, color="black", linestyle="--", linewidth=0.9)
        axis.set_xticks(range(len(orders)), list(orders))
        axis.set_ylabel("% of the raw bytes")
        axis.set_ylim(0, 1.2 * 100 * max(order["encrypted first"] for order in orders.values()))
        axis.legend(fontsize=8, frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0))

    return draw_picture(
        draw,
        (9.2, 2.9),
        "A radiograph, its cipher image, and the one restored; bars: only compressing first saves",
    )
