"""A convolution as the sparse matrix that the planner compiles. numpy only, without encryption.

A map of c channels and h x w pixels is a vector, channel by channel and row by row. In that order a convolution of
stride 1 that keeps the maps' size has non-zero diagonals at the offsets 64 k + 8 dy + dx only (for maps of 8 x 8): as
many as one output has inputs. This is the least number if h w is a power of two, so that the channels wrap around.
Single-shot packings also take one matrix for the whole layer (Orion, Ebel et al. 2025). The zeros of the padding become
zeros of the weights (Gazelle, Juvekar et al. 2018) and cost nothing.

Where the maps shrink, outputs in that order would meet a new diagonal in every row of pixels. `places` therefore lays
them out on the input's grid, and fills the pixels that a stride leaves free with other channels: the multiplexed
packing of Lee et al. (ICML 2022).
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from he_infer.errors import HeadError

MAX_VALUES = 4096


@dataclass(frozen=True, eq=False)
class Convolution:
    """y = W * x + b, as torch's conv2d without dilation and groups computes it.

    Args:
        weight: (out, in, kernel height, kernel width) float64.
        bias: (out,) float64.
        shape: (channels, height, width) of x.
        stride: step in both directions.
        padding: zeros on each side.

    Raises:
        HeadError: shapes that do not fit, numbers that are not finite, or more than MAX_VALUES values in or out.
    """

    weight: NDArray[np.float64]
    bias: NDArray[np.float64]
    shape: tuple[int, int, int]
    stride: int = 1
    padding: int = 0

    def __post_init__(self) -> None:
        weight = np.array(self.weight, dtype=np.float64)
        bias = np.array(self.bias, dtype=np.float64)
        if weight.ndim != 4 or bias.shape != weight.shape[:1] or weight.size == 0:
            raise HeadError(
                f"A convolution has weights {weight.shape} and bias {bias.shape}; expected (out, in, height, width) "
                "and (out,)."
            )
        whole = (*self.shape, self.stride, self.padding)
        if len(self.shape) != 3 or not all(isinstance(n, int) and not isinstance(n, bool) for n in whole):
            raise HeadError("A convolution states its input as three whole numbers, and a whole stride and padding.")
        if min(self.shape) < 1 or self.stride < 1 or not 0 <= self.padding <= max(weight.shape[2:]):
            raise HeadError(
                f"A convolution cannot have the input {self.shape}, stride {self.stride} and padding {self.padding}."
            )
        if weight.shape[1] != self.shape[0] or any(
            side + 2 * self.padding < kernel for side, kernel in zip(self.shape[1:], weight.shape[2:], strict=True)
        ):
            raise HeadError(f"A convolution of weights {weight.shape} does not fit maps of {self.shape}.")
        if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
            raise HeadError("A convolution holds weights that are not finite numbers. Train or export it again.")
        weight.setflags(write=False)
        bias.setflags(write=False)
        object.__setattr__(self, "weight", weight)
        object.__setattr__(self, "bias", bias)
        if max(self.inputs, self.outputs) > MAX_VALUES:
            raise HeadError(
                f"A convolution from {self.shape} to {self.output_shape} has more than {MAX_VALUES} values in or out. "
                "Use fewer channels or smaller maps."
            )

    def __str__(self) -> str:
        return f"convolution {'x'.join(map(str, self.shape))} to {'x'.join(map(str, self.output_shape))}"

    def evaluate(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Map (n, inputs) to (n, outputs) by a sliding window; `matrix` gives the same function as a matrix."""
        maps = values.reshape(-1, *self.shape)
        pad = (self.padding, self.padding)
        padded = np.pad(maps, ((0, 0), (0, 0), pad, pad))
        windows = np.lib.stride_tricks.sliding_window_view(padded, self.weight.shape[2:], axis=(2, 3))
        windows = windows[:, :, :: self.stride, :: self.stride]
        out: NDArray[np.float64] = np.einsum("nchwij,ocij->nohw", windows, self.weight, optimize=True)
        return (out + self.bias[:, None, None]).reshape(len(values), -1)

    def bound(self, largest: float) -> float:
        """The largest absolute output for any inputs within +-largest."""
        return float((np.abs(self.weight).sum(axis=(1, 2, 3)) * largest + np.abs(self.bias)).max())

    def scaled(self, factors: NDArray[np.float64]) -> "Convolution":
        """The layer with each output channel multiplied by its factor (out,)."""
        weight = self.weight * factors[:, None, None, None]
        return Convolution(weight, self.bias * factors, self.shape, self.stride, self.padding)

    @property
    def output_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of y."""
        kernel, room = self.weight.shape[2:], 2 * self.padding
        high, wide = ((self.shape[1 + axis] + room - kernel[axis]) // self.stride + 1 for axis in (0, 1))
        return int(self.weight.shape[0]), high, wide

    @property
    def inputs(self) -> int:
        """Length of x as a vector."""
        c, h, w = self.shape
        return c * h * w

    @property
    def outputs(self) -> int:
        """Length of y as a vector."""
        c, h, w = self.output_shape
        return c * h * w

    @cached_property
    def matrix(self) -> NDArray[np.float64]:
        """Matrix (outputs, inputs) of the convolution on vectors; most of its entries are zero."""
        channels, high, wide = self.output_shape
        before, height, width = self.shape
        full = np.zeros((channels, high, wide, before, height, width))
        y, x = np.meshgrid(np.arange(high), np.arange(wide), indexing="ij")
        for i in range(self.weight.shape[2]):
            for j in range(self.weight.shape[3]):
                row, column = y * self.stride + i - self.padding, x * self.stride + j - self.padding
                inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
                full[:, y[inside], x[inside], :, row[inside], column[inside]] = self.weight[:, :, i, j]
        matrix = full.reshape(self.outputs, self.inputs)
        matrix.setflags(write=False)
        return matrix

    @property
    def biases(self) -> NDArray[np.float64]:
        """Biases (outputs,): each channel's bias, repeated for each of its pixels."""
        _, high, wide = self.output_shape
        return np.repeat(self.bias, high * wide)

    @cached_property
    def places(self) -> NDArray[np.int64]:
        """Places (outputs,) of the outputs that give few diagonals: below `room`, all different."""
        channels, high, wide = self.output_shape
        step = self.stride
        o, y, x = np.meshgrid(np.arange(channels), np.arange(high), np.arange(wide), indexing="ij")
        group, inside = o // step**2, o % step**2
        height, width = self._grid
        place = (group * height + y * step + inside // step) * width + x * step + inside % step
        place = place.reshape(-1)
        place.setflags(write=False)
        return place

    @property
    def room(self) -> int:
        """Length of a vector that holds the outputs in their places."""
        height, width = self._grid
        return -(-len(self.bias) // self.stride**2) * height * width

    @property
    def _grid(self) -> tuple[int, int]:
        """Rows and columns of the output grid: the input's, or more if the padding adds some."""
        _, high, wide = self.output_shape
        return max(self.shape[1], high * self.stride), max(self.shape[2], wide * self.stride)
