"""The option `--prevalence` of `train` and `import`."""

from typing import Annotated

import typer

PrevalenceShares = Annotated[
    str,
    typer.Option(
        "--prevalence",
        metavar="SHARES",
        help="Class frequencies that probabilities assume: 'training', those of the training images; 'balanced', equal "
        "ones; or those of the place of use, one a class: 'normal=0.4,pneumonia=0.6'.",
    ),
]
"""See `models.heads.prevalence.Prevalence`."""
