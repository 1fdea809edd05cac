"""Fig. 6a, Fig. 3, Table 2 and Fig. 4: an image, its cipher image, and the statistics of both."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cipher.analysis import correlation, entropy
from cipher.analysis.pixels import Image, highest, octets, planes, words
from cipher.analysis.subject import Inner
from cipher.analysis.suite import Effort, Seeds
from cipher.container import api as container
from cipher.keys.vault_key import VaultKey
from experiments.image_cipher import figures as cipher_figures
from experiments.image_cipher.images import NamedImage, load_image
from experiments.image_cipher.study import Study
from experiments.paper.item import PaperRequest, PaperResult
from experiments.present.drawing import draw_picture, show_image
from experiments.present.markdown_tables import Table
from he_infer.terminal import show_progress

IMAGE = "CT_small.dcm"
KEY_BIT = 100
"""Index of the key bit that differs in the wrong key of 6a."""


def run_encryption(request: PaperRequest) -> PaperResult:
    """6a: an image, its cipher image, what the right key and a key with one wrong bit give back, and the container."""
    image, seeds, inner = load_image(request.image or IMAGE), Seeds(request.seed), Inner()
    key = seeds.key("picture", 0)
    wrong = bytearray(key)
    wrong[KEY_BIT // 8] ^= 1 << KEY_BIT % 8
    secret = inner.encrypt(image.pixels, key, seeds.salt)
    restored = inner.decrypt(secret, key, seeds.salt)
    mistaken = inner.decrypt(secret, bytes(wrong), seeds.salt)
    vault_key = VaultKey.generate()
    sealed = container.seal_array(image.pixels, vault_key)
    opened = container.open_array(sealed, vault_key)
    figures = {
        "restored_exactly": bool(np.array_equal(restored, image.pixels)),
        "container_restored_exactly": bool(np.array_equal(opened, image.pixels)),
        "right_pixels_with_one_key_bit_wrong": float((mistaken == image.pixels).mean()),
        "plain_bytes": int(image.pixels.nbytes),
        "container_bytes": len(sealed),
        "entropy_plain": _entropy(image.pixels),
        "entropy_cipher": _entropy(secret),
        "entropy_of_random_bytes": entropy.expected(
            octets(secret)["pixel" if secret.itemsize == 1 else "low byte"].size
        ),
    }

    def draw(figure: Any) -> None:
        axes = figure.subplots(1, 4)
        layer = planes(words(image.pixels))[0]
        # 16-bit medical images leave most of their range unused, so their contrast is stretched.
        shown: tuple[float, float] = tuple(np.percentile(layer, [0.5, 99.5]).tolist())
        whole = (0.0, float(highest(secret)))
        for axis, pixels, title, limits in zip(
            axes,
            (image.pixels, secret, restored, mistaken),
            ("plain image", "cipher image", "decrypted", "decrypted, one\nkey bit wrong"),
            (shown, whole, shown, whole),
            strict=True,
        ):
            show_image(axis, planes(words(pixels))[0], title, limits=limits, size=10)

    return PaperResult(
        title="Fig. 6a: image encryption",
        parameters={"image": image.described},
        figures=figures,
        picture=draw_picture(
            draw, (8.4, 2.9), "A medical image, its cipher image, the image decrypted, and noise from a wrong key"
        ),
        lines=(
            f"{image.described}: back pixel for pixel: {figures['restored_exactly']}; with one key bit wrong "
            f"{figures['right_pixels_with_one_key_bit_wrong']:.2%} of the pixels are right.",
            f"Entropy {figures['entropy_plain']:.3f} bits a byte before, {figures['entropy_cipher']:.4f} after (random "
            f"bytes: {figures['entropy_of_random_bytes']:.4f} for each byte of a pixel).",
            f"Sealed in its container: {figures['plain_bytes']} bytes become {figures['container_bytes']}.",
        ),
    )


def run_histograms(request: PaperRequest) -> PaperResult:
    """Fig. 3: the histograms of plain and cipher image."""
    study = _study(load_image(request.image or IMAGE), Seeds(request.seed))
    counts = {name: np.bincount(part.ravel(), minlength=256) for name, part in octets(study.cipher_image).items()}
    chi = {name: float(((c - c.sum() / 256) ** 2 / (c.sum() / 256)).sum()) for name, c in counts.items()}
    return PaperResult(
        title="Fig. 3: histograms of a plain and an encrypted image",
        parameters={"image": study.image.described},
        figures={"chi_square": chi, "degrees_of_freedom": 255, "upper_limit_at_0.1_percent": 330.52},
        picture=cipher_figures.draw_histograms(study),
        lines=(
            *(
                f"{study.image.described}, {name}: chi-square of the cipher image's histogram {value:.1f} with 255 "
                "degrees of freedom (below 330.5 with probability 0.999 where bytes are random)."
                for name, value in chi.items()
            ),
            "The paper wants both histograms to look alike; that would be a leak. The cipher image's is flat.",
        ),
    )


def run_table_2(request: PaperRequest) -> PaperResult:
    """Table 2: correlation of adjacent pixels, the published rows beside ours over many keys."""
    image, seeds, inner = load_image(request.image or IMAGE), Seeds(request.seed), Inner()
    found: list[list[float]] = []
    with show_progress("Fresh keys", request.keys, console=request.console) as step:
        for index, key in seeds.keys("table 2", request.keys):
            found.append([c.r for c in correlation.adjacent(inner.encrypt(image.pixels, key, seeds.salt))])
            step(index + 1)
    ours, plain = np.array(found), correlation.adjacent(image.pixels)
    bounds = [one.bound for one in plain]
    outside = int((np.abs(ours) > bounds).sum())
    rows: list[tuple[str, list[str]]] = [
        (name, [f"{value:.3f}" for value in values]) for name, values in correlation.PUBLISHED
    ]
    rows += [
        ("this project's inner cipher: mean", [f"{value:.5f}" for value in ours.mean(axis=0)]),
        ("the same: standard deviation", [f"{value:.5f}" for value in ours.std(axis=0, ddof=1)]),
        ("the same: largest absolute r of all keys", [f"{value:.5f}" for value in np.abs(ours).max(axis=0)]),
        ("bound on the absolute r of one image, 99.9 %", [f"{value:.5f}" for value in bounds]),
        ("the plain image", [f"{one.r:.5f}" for one in plain]),
    ]
    table = Table(("Method", *correlation.DIRECTIONS), tuple((name, *values) for name, values in rows))

    def draw(figure: Any) -> None:
        axis = figure.subplots()
        axis.set_axis_off()
        cells = axis.table(
            cellText=[values for _, values in rows],
            rowLabels=[name for name, _ in rows],
            colLabels=list(correlation.DIRECTIONS),
            bbox=[0.55, 0, 0.45, 1],
            cellLoc="right",
        )
        cells.auto_set_font_size(False)
        cells.set_fontsize(9)
        for (row, column), cell in cells.get_celld().items():
            cell.set_linewidth(0.4)
            if row == 0:
                cell.set_text_props(weight="bold")
            if column == -1:
                cell.set_text_props(ha="left")
                cell.PAD = 0.02

    return PaperResult(
        title="Table 2: correlation of adjacent pixels",
        parameters={"image": image.described, "keys": request.keys},
        figures={
            "published": {name: list(values) for name, values in correlation.PUBLISHED},
            "mean": ours.mean(axis=0).tolist(),
            "deviation": ours.std(axis=0, ddof=1).tolist(),
            "largest": np.abs(ours).max(axis=0).tolist(),
            "bound": bounds,
            "outside_bound": outside,
            "plain": [one.r for one in plain],
        },
        picture=draw_picture(
            draw, (8.4, 2.9), "The paper's Table 2 with rows for this project's cipher, its bound and the plain image"
        ),
        lines=(
            f"{request.keys} keys x 3 directions: {outside} of {ours.size} values outside of their 99.9 % bound "
            f"({ours.size * correlation.SIGNIFICANCE:.2f} expected of random pixels).",
            "Values inside the bound cannot be told from zero, nor ranked.",
        ),
        tables={"table-2.md": table.to_markdown() + "\n"},
    )


def run_correlations(request: PaperRequest) -> PaperResult:
    """Fig. 4: |r| of five methods as bars, with the bound of our image."""
    study = _study(load_image(request.image or IMAGE), Seeds(request.seed))
    return PaperResult(
        title="Fig. 4: correlation coefficients side by side",
        parameters={"image": study.image.described},
        figures={"ours": list(study.correlation), "bound": list(study.bounds)},
        picture=cipher_figures.draw_correlations(study),
        lines=(
            "ours: "
            + ", ".join(
                f"{name} {r:.5f} (bound {limit:.5f})"
                for name, r, limit in zip(correlation.DIRECTIONS, study.correlation, study.bounds, strict=True)
            ),
        ),
    )


def _study(image: NamedImage, seeds: Seeds) -> Study:
    """Make a study of one cipher image and its decryption; the suite's evaluations are `he-experiments cipher`'s."""
    inner, key = Inner(), seeds.key("picture", 0)
    secret = inner.encrypt(image.pixels, key, seeds.salt)
    restored = inner.decrypt(secret, key, seeds.salt)
    return Study(image, Effort.for_keys(20), secret, restored, (), (), (), (), (), ())


def _entropy(image: Image) -> float:
    """Entropy in bits a byte, the mean over the bytes of a pixel."""
    measured: Callable[[NDArray[np.uint8]], float] = lambda part: entropy.shannon(  # noqa: E731 - named for its type
        np.bincount(part.ravel(), minlength=256)
    )
    return float(np.mean([measured(part) for part in octets(image).values()]))
