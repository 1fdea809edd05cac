"""Fig. 6c and 6e: a set of images classified through an encrypted service: tumours, and the service as such."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.bundles import load_or_train, load_set
from experiments.paper.item import PaperRequest, PaperResult
from experiments.paper.service import compute_figures, describe_figures, run_service
from experiments.present.drawing import BLUE, GREEN, ORANGE, SKY, Picture, draw_picture, show_image
from he_infer.ckks.packing import pack
from he_infer.client.keys.secret_key import SecretKey
from he_infer.terminal import show_progress

TUMOURS = "breastmnist"
"""The set that 6c runs on where none is named: tumours in ultrasound, since no MRI set comes with any package."""
GENERAL = "pneumoniamnist"
SHOWN = 6


def run_tumours(request: PaperRequest) -> PaperResult:
    """6c: tumour types, told apart on encrypted features by a model trained on the user's set (.npz or folders)."""
    name = request.data or TUMOURS
    dataset = load_set(name, request.bundle)
    bundle = load_or_train(request.console, dataset, request.bundle, epochs=request.epochs, seed=request.seed)
    test = dataset.test if request.limit is None else dataset.test.first(request.limit)
    clear = bundle.scores(bundle.features(test.images))
    with (
        run_service(bundle) as service,
        show_progress("Classified encrypted", len(test), console=request.console) as step,
    ):
        found = service.classify(test.images, step)
        figures = compute_figures(test.labels, clear, found, service)
        named = service.decide(clear)
    matrices = [_confusion(test.labels, said, len(dataset.classes)) for said in (named, found.labels)]
    figures["confusion_clear"], figures["confusion_encrypted"] = (matrix.tolist() for matrix in matrices)
    note = (
        "No MRI tumour set comes with this project or with any package that it uses, so this run is on breast tumours "
        "in ultrasound. Name yours with --data."
    )
    return PaperResult(
        title="Fig. 6c: tumour types from encrypted features",
        parameters={"dataset": dataset.name, "digest": dataset.digest, "bundle": bundle.name, "limit": request.limit},
        figures=figures,
        picture=_tumour_picture(test.images, test.labels, found.labels, matrices, dataset.classes),
        lines=(describe_figures(figures), *((note,) if request.data is None else ()), *dataset.notes),
    )


def run_encrypted_service(request: PaperRequest) -> PaperResult:
    """6e: image -> features -> ciphertext -> server -> encrypted scores -> label, with the cost of each step."""
    dataset = load_set(request.data or GENERAL, request.bundle)
    bundle = load_or_train(request.console, dataset, request.bundle, epochs=request.epochs, seed=request.seed)
    test = dataset.test if request.limit is None else dataset.test.first(request.limit)
    features = bundle.features(test.images)
    with (
        run_service(bundle) as service,
        show_progress("Classified encrypted", len(test), console=request.console) as step,
    ):
        found = service.classify(test.images, step)
        figures = compute_figures(test.labels, bundle.scores(features), found, service)
        plan = service.plan
    example = len(test) // 2
    ciphertext = SecretKey.generate(plan.parameters).encrypt(
        pack(plan, features[example : example + 1]), plan.input_scale
    )
    probabilities = found.probabilities[example]
    return PaperResult(
        title="Fig. 6e: the encrypted service, end to end",
        parameters={"dataset": dataset.name, "digest": dataset.digest, "bundle": bundle.name, "limit": request.limit},
        figures={**figures, "plan": plan.digest, "parameters": str(plan.parameters), "policy": plan.policy},
        picture=_service_picture(
            test.images[example], features[example], b"".join(ciphertext), probabilities, dataset.classes, figures
        ),
        lines=(
            describe_figures(figures),
            f"One image: {figures['encrypt_ms']:.1f} ms to encrypt, {figures['round_trip_ms']:.1f} ms for the round "
            f"trip ({figures['server_ms']:.1f} ms of it the server's), {figures['decrypt_ms']:.1f} ms to decrypt; "
            f"{figures['bytes_up'] / 1e3:.0f} KB up, {figures['bytes_down'] / 1e3:.0f} KB down; evaluation keys "
            f"{figures['evaluation_key_bytes'] / 1e6:.1f} MB, once. Means, client and server on one machine.",
        ),
    )


def _confusion(labels: NDArray[np.int64], named: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    counts = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(counts, (labels, named), 1)
    return counts


def _tumour_picture(
    images: NDArray[Any],
    labels: NDArray[np.int64],
    named: NDArray[np.int64],
    matrices: list[NDArray[np.int64]],
    classes: tuple[str, ...],
) -> Picture:
    """Some test images with true and predicted class, and both confusion matrices."""
    chosen = np.linspace(0, len(labels) - 1, min(SHOWN, len(labels))).astype(int)
    short = [name if len(name) < 22 else name[:20] + "…" for name in classes]

    def draw(figure: Any) -> None:
        above, below = figure.subfigures(2, 1, height_ratios=[1, 1.9])
        for axis, index in zip(above.subplots(1, SHOWN), chosen, strict=False):
            said = int(named[index])
            name = f"{short[labels[index]]}\n{'✓' if said == labels[index] else '✗ ' + short[said]}"
            show_image(axis, images[index], name, size=8)
        panels = below.subplots(1, 2)
        for axis, matrix, name in zip(panels, matrices, ("in clear", "encrypted"), strict=True):
            axis.imshow(matrix, cmap="Blues", vmin=0, vmax=max(int(matrix.max()), 1))
            for (row, column), count in np.ndenumerate(matrix):
                dark = count > 0.6 * matrix.max()
                axis.text(column, row, str(count), ha="center", va="center", color="white" if dark else "black")
            axis.set_xticks(range(len(classes)), short, rotation=20, ha="right")
            axis.set_yticks(range(len(classes)), short)
            axis.set_xlabel("class named by the client")
            axis.set_ylabel("true class")
            axis.set_title(name)

    return draw_picture(
        draw, (8.6, 5.4), "Test images with their labels, and the confusion matrices in clear and encrypted"
    )


def _service_picture(
    image: NDArray[Any],
    features: NDArray[np.floating],
    ciphertext: bytes,
    probabilities: NDArray[np.float64],
    classes: tuple[str, ...],
    figures: dict[str, Any],
) -> Picture:
    side = min(128, int(len(ciphertext) ** 0.5))
    middle = (len(ciphertext) - side * side) // 2
    noise = np.frombuffer(ciphertext[middle : middle + side * side], dtype=np.uint8).reshape(side, side)

    def draw(figure: Any) -> None:
        grid = figure.add_gridspec(2, 4, height_ratios=[1.5, 1])
        show_image(figure.add_subplot(grid[0, 0]), image, "1 the image: at the client", size=9)
        axis = figure.add_subplot(grid[0, 1])
        axis.vlines(np.arange(len(features)), 0, features, color=BLUE, linewidth=0.6)
        axis.set_title(f"2 its {len(features)} features:\nat the client", fontsize=9)
        axis.set_xlabel("feature")
        show_image(figure.add_subplot(grid[0, 2]), noise, f"3 what the server sees:\n{len(ciphertext):,} bytes", size=9)
        axis = figure.add_subplot(grid[0, 3])
        axis.barh(range(len(classes)), probabilities, color=GREEN, hatch="//", edgecolor="white")
        axis.set_yticks(range(len(classes)), classes)
        axis.invert_yaxis()
        axis.set_xlim(0, 1)
        axis.set_title("4 decrypted, at the client:\nprobability of each class", fontsize=9)
        axis = figure.add_subplot(grid[1, :])
        steps = (
            ("encrypt", figures["encrypt_ms"], BLUE, ""),
            ("server computes", figures["server_ms"], ORANGE, "//"),
            ("wire, envelopes, queue", figures["round_trip_ms"] - figures["server_ms"], SKY, ".."),
            ("decrypt", figures["decrypt_ms"], GREEN, "xx"),
        )
        start = 0.0
        for name, width, colour, hatch in steps:
            label = f"{name}: {width:.1f} ms"
            axis.barh(0, width, left=start, color=colour, hatch=hatch, edgecolor="white", label=label)
            start += width
        axis.set_yticks([])
        axis.set_xlabel(
            f"ms an image (means); {figures['bytes_up'] / 1e3:.0f} KB up, {figures['bytes_down'] / 1e3:.0f} KB down"
        )
        axis.legend(ncols=4, fontsize=8, frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0))

    return draw_picture(
        draw,
        (9.6, 4.6),
        "Image, features, ciphertext as noise, and decrypted scores; below, how long each step takes",
    )
