"""`he-experiments tiny-images`: one changed bit in images of one pixel and more, version 2 beside version 1."""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer

from experiments.records.finish import RecordFile
from he_infer.commands.json_option import JsonFile
from he_infer.commands.number_options import MOST_SEED

if TYPE_CHECKING:
    from cipher.analysis.subject import Subject
    from cipher.analysis.suite import Seeds

IMAGES: tuple[tuple[tuple[int, int], type[np.uint8] | type[np.uint16]], ...] = (
    ((1, 1), np.uint8), ((1, 2), np.uint8), ((3, 5), np.uint8), ((4, 4), np.uint8), ((1, 17), np.uint8),
    ((5, 5), np.uint8), ((1, 1), np.uint16), ((2, 4), np.uint16), ((3, 3), np.uint16), ((5, 7), np.uint16),
)  # fmt: skip
"""Shapes and types: below 16 bytes, exactly 16, and just above."""


@dataclass(frozen=True, slots=True)
class TinyRow:
    """Result of one cipher on images of one shape."""

    subject: str
    image: str
    lines: int
    failed: tuple[str, ...]
    """Names of the lines that failed."""
    smallest_p: float


def tiny_images(
    *,
    keys: Annotated[int, typer.Option(min=20, help="Fresh keys for each shape.")] = 300,
    seed: Annotated[int, typer.Option(min=0, max=MOST_SEED, help="Keys, images and salt are drawn from it.")] = 1,
    json_file: JsonFile = None,
    record: RecordFile = None,
) -> None:
    """Change one bit of tiny images and measure NPCR, UACI and the bits changed, over many keys at one salt.

    Images under 16 bytes are filled up to 16, as the container fills them, for version 2; version 1 took them bare.
    Exits with 1 if version 2 fails a line, or version 1 none.

    Example: `he-experiments tiny-images --keys 300`
    """
    from cipher.analysis.subject import Inner, Version1
    from cipher.analysis.suite import Seeds
    from cipher.analysis.tiny import Filled
    from experiments.present.screen_tables import grouped_table
    from experiments.records.finish import format_command, refuse_missing_folders, write_outcome
    from he_infer.terminal import make_console

    refuse_missing_folders(json=json_file, record=record)
    console, seeds = make_console(), Seeds(seed)
    ours = measure(Filled(Inner()), keys, seeds)
    control = measure(Version1(), keys, seeds)
    shown = [
        (row.subject, (row.image, f"{row.lines - len(row.failed)} of {row.lines}", f"{row.smallest_p:.2g}"))
        for row in (*ours, *control)
    ]
    console.print(grouped_table("tiny images, one bit changed", "image", ("lines passed", "smallest P"), shown))
    write_outcome(
        console,
        "tiny-images",
        command=format_command("tiny-images", keys=keys, seed=seed),
        seed=seed,
        parameters={"keys": keys},
        figures={"rows": [asdict(row) for row in (*ours, *control)]},
        json=json_file,
        record=record,
    )
    surprises = [f"{row.subject}, {row.image}: {name}" for row in ours for name in row.failed]
    if not any(row.failed for row in control):
        surprises.append("version 1 was not flagged")
    for line in surprises:
        console.print(f"failed: {line}", style="bold red")
    if surprises:
        raise typer.Exit(1)


def measure(subject: "Subject", keys: int, seeds: "Seeds") -> list[TinyRow]:
    """Measure a cipher on images of a few pixels; returns one row for each shape."""
    from cipher.analysis.line import Verdict
    from cipher.analysis.tiny import tiny_lines

    rows = []
    for shape, word in IMAGES:
        lines = tiny_lines(subject, shape, word, keys, seeds)
        failed = tuple(line.name for line in lines if line.verdict is Verdict.FAIL)
        image = f"{shape[0]} x {shape[1]}, {8 * np.dtype(word).itemsize} bit"
        smallest = min(p for line in lines for p in line.p_values)
        rows.append(TinyRow(subject.name, image, len(lines), failed, smallest))
    return rows
