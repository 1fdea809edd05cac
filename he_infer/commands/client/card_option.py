"""The option `--card`: the owner's statements for the model card."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

CardFile = Annotated[
    Path | None,
    typer.Option(
        "--card",
        help="TOML file for the model card: intended_use, licence, [image] kinds, [findings] codes of classes.",
    ),
]


def read_card(path: Path | None, classes: Sequence[str]) -> dict[str, Any]:
    """Read the owner's statements, and check that reports can use the codes; nothing without a file.

    Raises:
        InputError, ReportError: a member, value or code that is not valid.
        OSError: the file cannot be read.
    """
    if path is None:
        return {}
    from he_infer.client.pacs.reports.findings import read_findings
    from models.card_file import read_card_file

    given = read_card_file(path)
    read_findings(given, classes)
    return given
