"""Random changes of training images that leave the class as it is. All randomness comes from one generator."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Augmentation:
    """Limits of the random changes of a training image; zeros change nothing."""

    turn: float = 0.2
    """Largest rotation in radians."""
    zoom: float = 0.15
    """Largest change of scale, as a share."""
    shift: float = 0.12
    """Largest shift, as a share of half the side."""
    contrast: float = 0.3
    """Largest change of contrast, as a share."""
    brightness: float = 0.3
    """Largest shift of brightness, in standard deviations."""

    def apply(self, images: Tensor, orientation: str, generator: torch.Generator) -> Tensor:
        """Changed copies of images (N, C, H, W) that are already scaled to mean 0 and deviation 1.

        Args:
            images: network input, as `Preprocessing.apply` gives it.
            orientation: `fixed`, `mirror` or `any`; see `Dataset.orientation`.
            generator: the only source of randomness.
        """
        count = len(images)

        def draw(width: float, *shape: int) -> Tensor:
            return (torch.rand(count, *shape, generator=generator) * 2 - 1) * width

        mirror = torch.ones(count)
        if orientation != "fixed":
            mirror = torch.where(torch.rand(count, generator=generator) < 0.5, -1.0, 1.0)
        angle, zoom, shift = draw(self.turn), 1 + draw(self.zoom), draw(self.shift, 2)
        if orientation == "any":
            angle = angle + torch.randint(0, 4, (count,), generator=generator) * (torch.pi / 2)
        grid = torch.zeros(count, 2, 3)
        grid[:, 0, 0], grid[:, 0, 1] = angle.cos() * zoom * mirror, -angle.sin() * zoom
        grid[:, 1, 0], grid[:, 1, 1] = angle.sin() * zoom * mirror, angle.cos() * zoom
        grid[:, :, 2] = shift
        moved = functional.grid_sample(
            images,
            functional.affine_grid(grid, list(images.shape), align_corners=False),
            padding_mode="reflection",
            align_corners=False,
        )
        return moved * (1 + draw(self.contrast, 1, 1, 1)) + draw(self.brightness, 1, 1, 1)
