"""`he-experiments chosen-images`: four chosen images break the toy cipher, and tell nothing of the project's own."""

from typing import Annotated

import typer

from experiments.records.finish import FigureFile, RecordFile
from he_infer.commands.json_option import JsonFile


def chosen_images(
    image: Annotated[
        str, typer.Argument(help="The victim: a DICOM, PNG or NumPy file, or one of pydicom's by name.")
    ] = "CT_small.dcm",
    *,
    seed: Annotated[int, typer.Option(min=0, help="Key and salt are drawn from it.")] = 1,
    figure: FigureFile = None,
    json_file: JsonFile = None,
    record: RecordFile = None,
) -> None:
    """Attack both ciphers as somebody who may have four images of his choice encrypted under the victim's key and salt.

    The toy is a chaotic cipher of the published kind: a key stream of short period and linear diffusion.

    Example: `he-experiments chosen-images CT_small.dcm --figure attack.png`
    """
    from rich.console import Console

    from cipher.analysis.subject import Inner
    from cipher.analysis.suite import Seeds
    from cipher.analysis.toy import Toy
    from experiments.image_cipher.figures import draw_attacks
    from experiments.image_cipher.images import load_image
    from experiments.image_cipher.study import attack_subject, crop_to_control
    from experiments.records.finish import format_command, refuse_missing_folders, write_outcome

    refuse_missing_folders(figure=figure, json=json_file, record=record)
    console = Console()
    named, seeds = load_image(image), Seeds(seed)
    victim = crop_to_control(named.pixels)
    key = seeds.key("picture", 0)
    attacks = [attack_subject(subject, victim, key, seeds.salt) for subject in (Toy(), Inner())]
    for one in attacks:
        repeats = f"; its key stream repeats every {one.period} bytes" if one.right_bytes == 1 else ""
        console.print(
            f"{one.subject}: {one.right_bytes:.2%} of the victim's bytes foretold (chance: {1 / 256:.2%}){repeats}",
            highlight=False,
        )
    write_outcome(
        console,
        "chosen-images",
        command=format_command("chosen-images", image, seed=seed, figure=figure),
        seed=seed,
        parameters={"image": named.described},
        figures={
            one.subject: {
                "right_bytes": one.right_bytes,
                "period": one.period if one.right_bytes == 1 else None,
                "read_exactly": bool((one.recovered == victim).all()),
            }
            for one in attacks
        },
        drawn=None if figure is None else draw_attacks(attacks, victim),
        figure=figure,
        json=json_file,
        record=record,
    )
