"""`he-experiments cipher-speed`: the image cipher beside AES-256-GCM and the usual chaotic design, in one run."""

import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from he_infer.commands.json_option import JsonFile
from he_infer.files import write_json

if TYPE_CHECKING:
    from rich.console import Console

    from experiments.image_cipher.timing import CipherSpeed, FolderSpeed

WANTED = {"sealed container, numba": 800.0, "inner cipher, numpy alone": 150.0}
"""Required MB/s of encrypting, on one thread for a 2048 x 2048 16-bit image."""
WANTED_SIDE = 2048


def cipher_speed(
    side: Annotated[int, typer.Option(min=64, max=16384, help="Pixels to a side of the large images.")] = WANTED_SIDE,
    repeats: Annotated[int, typer.Option(min=1, help="Timed rounds of each cipher on each image.")] = 9,
    files: Annotated[int, typer.Option(min=0, help="DICOM files of the folder that is sealed; 0 leaves it out.")] = 48,
    json_file: JsonFile = None,
) -> None:
    """Time the inner cipher, the sealed container, AES-256-GCM and a chaotic toy, in turns on the same images.

    Only the ratios apply to another machine. Small images are timed alone, and 16 in a row. The folder is sealed as
    `he-infer protect` does it, one file at a time and several, beside a plain copy with sync.

    Example: `he-experiments cipher-speed --json speed.json`
    """
    import numpy as np

    from experiments.image_cipher.timing import make_test_image, time_all, time_folder
    from he_infer.machine import usable_cores
    from he_infer.terminal import make_console, show_progress

    console = make_console()
    small = make_test_image(max(32, side // 4), np.uint16)
    images = ((make_test_image(side, np.uint16), 1), (make_test_image(side, np.uint8), 1), (small, 1), (small, 16))
    speeds: list[CipherSpeed] = []
    for image, in_a_row in images:
        title = f"{in_a_row} of {image.shape[0]} x {image.shape[1]}, {image.dtype}"
        with show_progress(title, repeats + 1, console=console) as step:
            speeds += time_all(image, repeats, step, in_a_row=in_a_row)
    folders: list[FolderSpeed] = []
    for jobs in (1, None) if files else ():
        with (
            tempfile.TemporaryDirectory(prefix="he-infer-speed-") as folder,
            show_progress(f"a folder, {jobs or 'several'} at a time", files, console=console) as step,
        ):
            folders.append(time_folder(Path(folder), files, side, jobs, step))
    _print(console, speeds, folders)
    misses = _misses(speeds, side)
    for line in misses:
        console.print(f"below the target: {line}", style="bold red")
    if json_file is not None:
        write_json(
            json_file,
            {
                "command": f"he-experiments cipher-speed --side {side} --repeats {repeats} --files {files}",
                "processor_cores": usable_cores(),
                "speeds": [asdict(speed) for speed in speeds],
                "folders": [
                    {**asdict(folder), "mb_per_s": folder.mb_per_s, "copy_mb_per_s": folder.copy_mb_per_s}
                    for folder in folders
                ],
                "targets_mb_per_s": WANTED,
                "missed": misses,
            },
        )


def _misses(speeds: "list[CipherSpeed]", side: int) -> list[str]:
    if side != WANTED_SIDE:
        return []
    return [
        f"{speed.subject}: {speed.encrypt_mb_per_s:.0f} MB/s of {WANTED[speed.subject]:.0f}"
        for speed in speeds
        if speed.image == f"{side} x {side} uint16" and speed.encrypt_mb_per_s < WANTED.get(speed.subject, 0.0)
    ]


def _print(console: "Console", speeds: "list[CipherSpeed]", folders: "list[FolderSpeed]") -> None:
    from experiments.present.screen_tables import grouped_table

    rows = [
        (
            speed.image,
            (
                speed.subject,
                f"{speed.encrypt_mb_per_s:.0f} ({speed.encrypt_mb_per_s_clock:.0f})",
                f"{speed.decrypt_mb_per_s:.0f} ({speed.decrypt_mb_per_s_clock:.0f})",
                f"{speed.aes_takes:.1f} x",
                f"{speed.faster_than_toy:.1f} x",
            ),
        )
        for speed in speeds
    ]
    title = "MB/s, one thread, medians: by processor time (by the clock)"
    console.print(grouped_table(title, "cipher", ("encrypt", "decrypt", "AES faster", "toy slower"), rows))
    for folder in folders:
        console.print(
            f"folder of {folder.files} DICOM files, {folder.megabytes:.0f} MB, to synced sealed objects, {folder.jobs} "
            f"at a time: {folder.mb_per_s:.1f} MB/s; plain copy with sync: {folder.copy_mb_per_s:.1f} MB/s",
            highlight=False,
        )
    if len(folders) == 2:
        console.print(
            f"all cores against one file at a time: {folders[1].mb_per_s / folders[0].mb_per_s:.2f} times",
            highlight=False,
        )
