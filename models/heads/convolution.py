"""A convolution as a layer of the encrypted head, in float64. Knows neither torch nor how it is encrypted.

Values are vectors: a map of c channels and h x w pixels lies in them channel by channel, row by row.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.errors import HeadError

Matrix = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Convolution:
    """Maps (c, h, w) to maps (c', h', w'), as torch's conv2d without dilation and groups does.

    Raises:
        HeadError: shapes that do not fit together.
    """

    weight: Matrix
    """(c', c, kernel height, kernel width)."""
    bias: Matrix
    """(c',)."""
    shape: tuple[int, int, int]
    """(c, h, w) of what goes in."""
    stride: int = 1
    padding: int = 0
    """Zeros on each side."""

    def __post_init__(self) -> None:
        c, h, w = self.shape
        if self.weight.ndim != 4 or self.bias.shape != self.weight.shape[:1] or 0 in self.weight.shape:
            raise HeadError(
                f"A convolution has a weight of shape {self.weight.shape} and a bias of shape {self.bias.shape}. "
                "Expected (out, in, height, width) and (out,)."
            )
        if self.weight.shape[1] != c or self.stride < 1 or self.padding < 0 or min(self.shape) < 1:
            raise HeadError(
                f"A convolution of {self.weight.shape[1]} channels, stride {self.stride} and padding {self.padding} "
                f"does not fit maps of shape {self.shape}."
            )
        kernel = self.weight.shape[2:]
        if min(h + 2 * self.padding - kernel[0], w + 2 * self.padding - kernel[1]) < 0:
            raise HeadError(
                f"A kernel of {kernel[0]} x {kernel[1]} is larger than maps of {h} x {w} with their padding."
            )

    def __str__(self) -> str:
        return f"convolution {'x'.join(map(str, self.shape))} to {'x'.join(map(str, self.output_shape))}"

    @property
    def output_shape(self) -> tuple[int, int, int]:
        """(c', h', w') of what comes out."""
        sides = (
            (side + 2 * self.padding - kernel) // self.stride + 1
            for side, kernel in zip(self.shape[1:], self.weight.shape[2:], strict=True)
        )
        high, wide = sides
        return int(self.weight.shape[0]), high, wide

    @property
    def inputs(self) -> int:
        """Number of values in."""
        return int(np.prod(self.shape))

    @property
    def outputs(self) -> int:
        """Number of values out."""
        return int(np.prod(self.output_shape))

    def evaluate(self, values: Matrix) -> Matrix:
        """(N, inputs) -> (N, outputs), in the clear."""
        maps = values.reshape(-1, *self.shape)
        pad = (self.padding, self.padding)
        padded = np.pad(maps, ((0, 0), (0, 0), pad, pad))
        windows = np.lib.stride_tricks.sliding_window_view(padded, self.weight.shape[2:], axis=(2, 3))
        windows = windows[:, :, :: self.stride, :: self.stride]
        out: Matrix = np.einsum("nchwij,ocij->nohw", windows, self.weight, optimize=True)
        return (out + self.bias[:, None, None]).reshape(len(values), -1)

    def bound(self, of_input: float) -> float:
        """The largest absolute value that can come out for inputs within +-of_input."""
        return float((np.abs(self.weight).sum(axis=(1, 2, 3)) * of_input + np.abs(self.bias)).max())

    def scaled(self, factors: Matrix) -> "Convolution":
        """Each output channel times its factor (c',)."""
        return Convolution(
            self.weight * factors[:, None, None, None], self.bias * factors, self.shape, self.stride, self.padding
        )
