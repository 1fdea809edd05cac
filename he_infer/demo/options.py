"""The demo's options, and the extractor that follows from them."""

from dataclasses import dataclass
from pathlib import Path

from he_infer.errors import UsageError
from models.datasets import MODALITY
from models.extractors import efficientnet_lite

CNN = "cnn"
"""The small network that is trained together with the head."""
PRETRAINED = efficientnet_lite.NAME


@dataclass(frozen=True)
class DemoOptions:
    """The user's options."""

    data: str
    """Name, file or folder of a classification set; see `models.datasets.load`."""
    out: Path
    """Folder for the bundle, the vault, the server's data and the report."""
    seed: int
    epochs: int | None
    """Passes over the training images; None: the recipe's own number."""
    limit: int | None
    """Number of test images to classify, from the first; None: the whole test set."""
    head: str = "mlp"
    """Kind of head; see `models.heads.trainable.KINDS`."""
    extractor: str | None = None
    """`CNN`, or `PRETRAINED`; None: as the data suits, see `chosen_extractor`."""

    def __post_init__(self) -> None:
        if self.extractor == PRETRAINED and self._trains:
            raise UsageError(
                f"--epochs and --head conv train the extractor, and {PRETRAINED} is kept as it is. Leave them out, or "
                f"give --extractor {CNN}."
            )

    @property
    def chosen_extractor(self) -> str:
        """The pretrained network for the packaged images, whose nine training patients are too few to train one on.

        Otherwise, and where options ask for a training, the small network.
        """
        if self.extractor is None:
            return CNN if self._trains or self.data.lower() != MODALITY else PRETRAINED
        return self.extractor

    @property
    def _trains(self) -> bool:
        return self.epochs is not None or self.head == "conv"
