"""Results for whole pictures and patients: the decrypted probabilities of its patches are summed."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class PictureResult:
    """Result for a picture of the test set, or for a patient."""

    truth: int
    clear: int
    """The class of the largest sum of clear probabilities."""
    encrypted: int
    """The class of the largest sum of decrypted probabilities."""
    patches: int
    example: int
    """Index in the test set of the middle patch, which is shown."""


def sum_by_group(
    groups: NDArray[np.int64], labels: NDArray[np.int64], clear: NDArray[np.float64], opened: NDArray[np.float64]
) -> list[PictureResult]:
    """Sum the probabilities of each group's patches, and name the class of the largest sum.

    Args:
        groups: (n,) the number of the picture, or the patient, of each patch.
        labels: (n,) true classes; one for all patches of a group.
        clear: (n, classes) probabilities in clear.
        opened: (n, classes) decrypted probabilities.
    """
    results = []
    for group in dict.fromkeys(groups.tolist()):
        own = np.flatnonzero(groups == group)
        results.append(
            PictureResult(
                truth=int(labels[own[0]]),
                clear=int(clear[own].sum(axis=0).argmax()),
                encrypted=int(opened[own].sum(axis=0).argmax()),
                patches=len(own),
                example=int(own[len(own) // 2]),
            )
        )
    return results


def count_right(results: Sequence[PictureResult], *, encrypted: bool) -> int:
    """Count the results that name the true class."""
    return sum((one.encrypted if encrypted else one.clear) == one.truth for one in results)
