"""`he-experiments inversion`: rebuilds images from features, which shows why features are encrypted."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from experiments.records.finish import DataSet, FigureFile, RecordFile, TrainingSeed
from he_infer.commands.json_option import JsonFile

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from rich.console import Console

    from experiments.leaks.rebuild import Images
    from experiments.present.drawing import Picture
    from models.bundle import Bundle

SHOWN = 8
"""Test images in the picture."""
SEALED = 400
"""Training images whose ciphertexts the attacker learns from, and the most test images that are attacked."""
SEALED_BYTES = 4096
"""Bytes of each ciphertext that the attacker uses, from its middle on, where there is no header."""


def inversion(
    data: DataSet,
    *,
    bundle_file: Annotated[
        Path | None, typer.Option("--bundle", help="Attack this bundle's features; nothing is trained for it then.")
    ] = None,
    epochs: Annotated[int, typer.Option(min=1, help="Passes of the decoder over the attacker's images.")] = 30,
    limit: Annotated[int | None, typer.Option(min=32, help="Number of images that the attacker learns from.")] = None,
    seed: TrainingSeed = 0,
    figure: FigureFile = None,
    json_file: JsonFile = None,
    record: RecordFile = None,
) -> None:
    """Rebuild test images from their clear features, and from their ciphertexts, and measure the likeness.

    The attacker knows other images and their features (here: the training split) and trains a decoder on them.

    Example: `he-experiments inversion --data pneumoniamnist --bundle chest.hebundle --figure inversion.png`
    """
    from experiments.bundles import load_or_train, load_set
    from experiments.leaks import rebuild
    from experiments.records.finish import format_command, refuse_missing_folders, write_outcome
    from he_infer.terminal import make_console, show_progress
    from models.images.preprocessing import Preprocessing

    refuse_missing_folders(figure=figure, json=json_file, record=record)
    console = make_console()
    dataset = load_set(data, bundle_file)
    bundle = load_or_train(console, dataset, bundle_file, seed=seed)
    known = dataset.train if limit is None else dataset.train.first(limit)
    shape = bundle.preprocessing
    plain = Preprocessing.plain(shape.size, shape.channels)
    images = {name: plain.apply(split.images) for name, split in (("known", known), ("test", dataset.test))}
    views = {"known": bundle.features(known.images), "test": bundle.features(dataset.test.images)}
    rebuilt: dict[str, Images] = {}
    with show_progress("Training the decoder", epochs, console=console) as step:
        decode = rebuild.train_decoder(views["known"], images["known"], epochs=epochs, seed=seed, progress=step)
    rebuilt["decoder"] = decode(views["test"])
    rebuilt["linear map"] = rebuild.fit_ridge(views["known"], images["known"])(views["test"])
    rebuilt["nearest known image"] = images["known"][_nearest(views["known"], views["test"])]
    mean = images["known"].mean(axis=0, keepdims=True)
    rebuilt["mean image"] = mean.repeat(len(images["test"]), axis=0)
    found = {name: rebuild.measure_likeness(images["test"], made) for name, made in rebuilt.items()}
    sealed_known, sealed_test = min(SEALED, len(known)), min(SEALED, len(dataset.test))
    with show_progress("Encrypting features", sealed_known + sealed_test, console=console) as step:
        sealed = _ciphertext_bytes(bundle, [*views["known"][:sealed_known], *views["test"][:sealed_test]], step)
    guess = rebuild.fit_ridge(sealed[:sealed_known], images["known"][:sealed_known])(sealed[sealed_known:])
    found["ciphertext, linear map"] = rebuild.measure_likeness(images["test"][:sealed_test], guess)
    rebuilt["ciphertext, linear map"] = guess
    found["ciphertext, mean image"] = rebuild.measure_likeness(
        images["test"][:sealed_test], rebuilt["mean image"][:sealed_test]
    )
    _show(console, dataset.name, bundle, found, len(images["test"]), sealed_test)
    drawn = None
    if figure is not None:
        drawn = _draw(images["test"], rebuilt, min(SHOWN, sealed_test), sealed_test)
    write_outcome(
        console,
        "inversion",
        command=format_command(
            "inversion", data=data, bundle=bundle_file, epochs=epochs, limit=limit, seed=seed, figure=figure
        ),
        seed=seed,
        parameters={
            "dataset": dataset.name,
            "digest": dataset.digest,
            "bundle": bundle.name,
            "width": bundle.head.width,
            "epochs": epochs,
            "limit": limit,
        },
        figures={
            "known_images": len(known),
            "test_images": len(images["test"]),
            "ciphertexts": sealed_test,
            "rebuilt": {name: vars(one) for name, one in found.items()},
        },
        drawn=drawn,
        figure=figure,
        json=json_file,
        record=record,
    )


def _nearest(known: "NDArray[np.floating[Any]]", seen: "NDArray[np.floating[Any]]") -> "NDArray[np.int64]":
    """Index of the nearest known feature vector, for each seen one."""
    import numpy as np

    distances = (known.astype(np.float64) ** 2).sum(axis=1)[None] - 2 * seen.astype(np.float64) @ known.T
    return np.asarray(distances.argmin(axis=1))


def _ciphertext_bytes(bundle: "Bundle", features: "list[NDArray[Any]]", step: Any) -> "NDArray[np.float64]":
    """(N, SEALED_BYTES) bytes of each image's request as it would go to the server, all under one key."""
    import numpy as np

    from he_infer.ckks.packing import pack
    from he_infer.ckks.planning.search import make_plan
    from he_infer.client.keys.secret_key import SecretKey

    plan = make_plan(bundle.head, policy=bundle.policy, input_bound=bundle.input_bound)
    secret = SecretKey.generate(plan.parameters)
    rows = []
    for index, row in enumerate(features):
        sent = b"".join(secret.encrypt(pack(plan, np.asarray(row, dtype=np.float64)[None]), plan.input_scale))
        middle = len(sent) // 2
        rows.append(np.frombuffer(sent[middle : middle + SEALED_BYTES], dtype=np.uint8).astype(np.float64))
        step(index + 1)
    return np.stack(rows)


def _show(console: "Console", name: str, bundle: "Bundle", found: dict[str, Any], images: int, sealed: int) -> None:
    from experiments.present.screen_tables import figures_table

    title = f"{name}: {images} test images rebuilt from {bundle.head.width} features"
    table = figures_table(title, ("rebuilt by",), ("PSNR, dB", "SSIM", "recognised"))
    for way, one in found.items():
        if way == "ciphertext, linear map":
            table.add_section()
        table.add_row(way, f"{one.psnr:.2f}", f"{one.ssim:.3f}", f"{one.found:.1%}")
    console.print(table)
    console.print(
        f"Recognised: the rebuilt image is nearer to its original than to any other test image (chance "
        f"{1 / images:.1%}). Ciphertext rows: {sealed} test images, chance {1 / sealed:.1%}.",
        highlight=False,
    )


def _draw(originals: "Images", rebuilt: "dict[str, Images]", count: int, among: int) -> "Picture":
    """Rows of images: the originals, then the reconstruction of each method."""
    import numpy as np

    from experiments.present.drawing import draw_picture, show_image

    chosen = np.linspace(0, among - 1, count).astype(int)
    rows = {
        "original": originals,
        "features:\ndecoder": rebuilt["decoder"],
        "features:\nlinear map": rebuilt["linear map"],
        "nearest\nknown image": rebuilt["nearest known image"],
        "ciphertext:\nlinear map": rebuilt["ciphertext, linear map"],
        "mean image": rebuilt["mean image"],
    }

    def draw(figure: Any) -> None:
        axes = figure.subplots(len(rows), count, squeeze=False)
        for line, (name, pictures) in zip(axes, rows.items(), strict=True):
            for axis, index in zip(line, chosen, strict=True):
                image = pictures[index]
                show_image(axis, image[0] if len(image) == 1 else image.transpose(1, 2, 0), limits=(0, 1))
            line[0].text(
                -0.12, 0.5, name, transform=line[0].transAxes, ha="right", va="center", fontsize=9, clip_on=False
            )

    return draw_picture(
        draw,
        (0.95 * count + 1.2, 0.95 * len(rows)),
        "Rows of test images: the originals, then what can be rebuilt from features, from ciphertexts, and the mean",
        dpi=110,
    )
