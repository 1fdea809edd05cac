"""One image on its way: at the client, as the extractor sees it, its features, at the server, and the result."""

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from he_infer.demo.pictures import BLUE, STYLE, displayed, to_png

_SIDE = 128
"""Side in bytes of the square of ciphertext that is shown."""


def draw_path(
    image: NDArray[Any],
    seen: NDArray[np.float32],
    features: NDArray[np.float32],
    sent: bytes,
    probabilities: NDArray[np.float64],
    classes: Sequence[str],
) -> bytes:
    """Draw an image's way through both machines.

    Args:
        image: (H, W) or (H, W, 3).
        seen: (channels, side, side), the extractor's input.
        features: (width,).
        sent: the ciphertexts of a request.
        probabilities: (classes,), decrypted.
        classes: names of the classes.
    """
    side = min(_SIDE, int(len(sent) ** 0.5))
    middle = (len(sent) - side * side) // 2
    noise = np.frombuffer(sent[middle : middle + side * side], dtype=np.uint8).reshape(side, side)
    view = seen[0] if len(seen) == 1 else seen.transpose(1, 2, 0)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(10.4, 2.6), layout="constrained")
        panels = figure.subplots(1, 5)
        shown = (
            (panels[0], displayed(image), f"1 the image,\n{image.shape[1]} x {image.shape[0]}"),
            (panels[1], displayed(view), f"2 the extractor's view,\n{view.shape[1]} x {view.shape[0]}"),
            (panels[3], noise / 255, f"4 at the server:\n{len(sent) / 1e3:,.0f} KB ciphertext"),
        )
        for axis, pixels, title in shown:
            axis.imshow(pixels, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            axis.set_title(title)
            axis.set_axis_off()
        panels[2].vlines(np.arange(len(features)), 0, features, color=BLUE, linewidth=0.6)
        panels[2].set_title(f"3 its {len(features)} features:\nthey get encrypted")
        panels[4].barh(range(len(classes)), probabilities, color=BLUE)
        panels[4].set_yticks(range(len(classes)), [name[:18] for name in classes])
        panels[4].invert_yaxis()
        panels[4].set(xlim=(0, 1), title="5 probabilities,\ndecrypted")
        return to_png(figure)
