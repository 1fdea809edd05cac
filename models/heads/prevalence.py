"""Shares of the classes that probabilities assume: equal ones, those of the training images, or a site's own."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.errors import InputError

_ROUNDING = 0.02
"""Largest difference between 1 and the sum of stated shares: 0.33, 0.33, 0.33 is accepted."""


@dataclass(frozen=True, eq=False)
class Prevalence:
    """The shares of the classes that a head's probabilities assume."""

    balanced: bool
    """Equal shares; otherwise those of the training images, unless `site` is given."""
    site: NDArray[np.float64] | None = None
    """(classes,) shares stated for the place of use, which sum to 1."""

    @classmethod
    def read(cls, text: str, classes: Sequence[str]) -> "Prevalence":
        """Read `training`, `balanced`, or a share for each class: `normal=0.4,pneumonia=0.6`.

        Raises:
            InputError: none of these, a class that is missing, unknown or named twice, a share that is not positive, or
                shares that do not sum to 1.
        """
        if text in ("training", "balanced"):
            return cls(text == "balanced")
        example = ",".join(f"{name}=SHARE" for name in classes)
        stated: dict[str, float] = {}
        for part in text.split(","):
            name, equals, share = part.rpartition("=")
            name = name.strip()
            if not equals or name not in classes or name in stated:
                raise InputError(
                    f"There is no prevalence '{text}'. Expected training, balanced, or the share of each class once: "
                    f"{example}."
                )
            try:
                stated[name] = float(share)
            except ValueError:
                stated[name] = float("nan")
        shares = np.array([stated.get(name, float("nan")) for name in classes])
        if not (shares > 0).all() or abs(float(shares.sum()) - 1) > _ROUNDING:
            raise InputError(
                f"The prevalence '{text}' gives no shares. Expected a number above 0 for each class, 1 in all: "
                f"{example}."
            )
        return cls(False, shares / shares.sum())
