"""ROC and reliability curves of classified images."""

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.calibration import calibration_curve
from sklearn.metrics import auc, roc_curve

from he_infer.demo.pictures import BLUE, GREY, STYLE, VERMILION, to_png
from models.card import OperatingPoint

_LINES = ("-", "--", "-.", ":")
_BINS = 10


def draw_curves(
    labels: NDArray[np.int64],
    probabilities: NDArray[np.float64],
    classes: Sequence[str],
    point: OperatingPoint | None = None,
) -> bytes:
    """Draw the ROC curve, of each class against the rest, and the reliability curve of the most probable class.

    Args:
        labels: (n,) true classes.
        probabilities: (n, classes).
        classes: names of the classes.
        point: the operating point of a model with two classes, marked on the ROC curve.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8.2, 3.7), layout="constrained")
        left, right = figure.subplots(1, 2)
        _draw_roc(left, labels, probabilities, classes, point)
        _draw_reliability(right, probabilities.max(axis=1), probabilities.argmax(axis=1) == labels)
        return to_png(figure)


def _draw_roc(
    axis: Axes,
    labels: NDArray[np.int64],
    probabilities: NDArray[np.float64],
    classes: Sequence[str],
    point: OperatingPoint | None,
) -> None:
    wanted = range(len(classes)) if len(classes) > 2 else [1 if point is None else classes.index(point.positive)]
    colours = mpl.colormaps["viridis"](np.linspace(0, 0.85, len(classes)))
    for column in wanted:
        positive = labels == column
        if not 0 < positive.sum() < len(positive):
            continue
        false, true, _ = roc_curve(positive, probabilities[:, column])
        name = f"{classes[column][:24]}, area {auc(false, true):.3f}"
        axis.plot(false, true, _LINES[column % len(_LINES)], color=colours[column], label=name)
        if point is not None and len(classes) == 2:
            said = probabilities[:, column] >= point.threshold
            axis.plot((said & ~positive).sum() / (~positive).sum(), (said & positive).sum() / positive.sum(), "o",
                      color=VERMILION, label=f"operating point {point.threshold:.2f}")  # fmt: skip
    axis.plot([0, 1], [0, 1], color=GREY, linewidth=0.8)
    axis.set(title="ROC", xlabel="share of other images taken for it", ylabel="share of the class recognised")
    axis.legend(loc="lower right", fontsize=8, frameon=False)


def _draw_reliability(axis: Axes, confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> None:
    shares, means = calibration_curve(right, confidence, n_bins=_BINS)
    axis.plot([0, 1], [0, 1], color=GREY, linewidth=0.8)
    axis.plot(means, shares, "o-", color=BLUE, label="share of right answers")
    axis.hist(confidence, bins=_BINS, range=(0, 1), weights=np.full(len(confidence), 1 / len(confidence)),
              color=BLUE, alpha=0.25, label="share of the images")  # fmt: skip
    axis.set(title="Reliability", xlabel="probability of the given class", ylabel="share", xlim=(0, 1), ylim=(0, 1.02))
    axis.legend(loc="upper left", fontsize=8, frameon=False)
