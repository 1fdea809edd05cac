"""`he-experiments paper ITEM`: the paper's figures and systems, one command and one picture each."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, get_args

import typer

from experiments.records.finish import RecordFile
from he_infer.commands.number_options import MOST_SEED

if TYPE_CHECKING:
    from experiments.paper.item import PaperRequest, PaperResult
    from experiments.present.drawing import Picture

Item = Literal["6a", "6b", "6c", "6d", "6e", "6f", "fig3", "table2", "fig4", "all"]


def paper(
    item: Annotated[
        Item,
        typer.Argument(
            help="6a image encryption; 6b denoising an encrypted image; 6c tumour types, on a set of yours; 6d X-rays "
            "compressed, sealed, stored, restored, classified; 6e the encrypted service; 6f image keys and their "
            "randomness; fig3 histograms; table2 and fig4 correlation of adjacent pixels; all."
        ),
    ],
    *,
    out: Annotated[Path, typer.Option(file_okay=False, help="Folder for pictures and tables; made where missing.")],
    image: Annotated[
        str | None,
        typer.Option(help="6a, 6b, 6d, fig3, table2, fig4: a DICOM, PNG or NumPy file, or pydicom's by name."),
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="6c, 6d, 6e: a set by name, an .npz file, or a folder with a subfolder a class.")
    ] = None,
    bundle: Annotated[
        Path | None, typer.Option(help="6c, 6d, 6e: a bundle trained for the set; without it one is trained.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=4, help="6c, 6d, 6e: number of test images, from the first.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="6c, 6d, 6e: passes of a training.")] = None,
    keys: Annotated[int, typer.Option(min=4, help="table2, 6f: fresh keys.")] = 40,
    seed: Annotated[int, typer.Option(min=0, max=MOST_SEED, help="Seed of noise, cipher keys and training.")] = 1,
    record: RecordFile = None,
) -> None:
    """Run an item of the paper on real images and draw its picture.

    Example: `he-experiments paper 6b --image CT_small.dcm --out figures --record figures/paper.jsonl`
    """
    from experiments.paper.item import PaperRequest
    from experiments.present.drawing import save_picture
    from experiments.records.finish import format_command, refuse_missing_folders, write_outcome
    from he_infer.errors import UsageError
    from he_infer.files import expect_writable, write_text
    from he_infer.terminal import make_console

    if item == "all" and (bundle is not None or data is not None):
        raise UsageError("'all' has sets of its own for 6c, 6d and 6e; name a set or a bundle with one of these items.")
    console = make_console()
    out.mkdir(parents=True, exist_ok=True)
    chosen = [name for name in get_args(Item) if name != "all"] if item == "all" else [item]
    refuse_missing_folders(record=record)
    expect_writable(*(out / f"{name}.png" for name in chosen))
    request = PaperRequest(console, image, data, bundle, limit, epochs, keys, seed)
    for name in chosen:
        result = _run(name, request)
        console.print(result.title, style="bold")
        for line in result.lines:
            console.print(line, markup=False, highlight=False, soft_wrap=True)
        for file, text in result.tables.items():
            write_text(out / file, text)
        for file, drawn in result.more.items():
            save_picture(out / f"{file}.{_suffix(drawn)}", drawn)
        options: dict[str, object] = {"image": image, "data": data, "bundle": bundle, "limit": limit, "epochs": epochs}
        write_outcome(
            console,
            f"paper-{name}",
            command=format_command("paper", name, out=out, **options, keys=keys, seed=seed),
            seed=seed,
            parameters=result.parameters,
            figures=result.figures,
            drawn=result.picture,
            figure=out / f"{name}.{_suffix(result.picture)}",
            record=record,
        )


def _suffix(drawn: "Picture") -> str:
    return "svg" if drawn.media_type == "image/svg+xml" else "png"


def _run(name: str, request: "PaperRequest") -> "PaperResult":
    from experiments.paper import archive, denoising, image_encryption, image_keys, systems

    items: dict[str, Callable[[PaperRequest], PaperResult]] = {
        "6a": image_encryption.run_encryption,
        "6b": denoising.run_denoising,
        "6c": systems.run_tumours,
        "6d": archive.run_archive,
        "6e": systems.run_encrypted_service,
        "6f": image_keys.run_image_keys,
        "fig3": image_encryption.run_histograms,
        "table2": image_encryption.run_table_2,
        "fig4": image_encryption.run_correlations,
    }
    return items[name](request)
