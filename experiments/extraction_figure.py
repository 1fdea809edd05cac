"""The figure of the extraction attacks: error against number of queries."""

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import matplotlib as mpl
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from experiments.extraction import Row

BLUE, VERMILION, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#555555"


def draw(rows: Sequence["Row"], limit: int) -> bytes:
    """A PNG: the linear head on the left, the quadratic one on the right; score errors on a logarithmic axis."""
    with mpl.rc_context({"font.size": 9.0, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(9.0, 3.9), layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True)
        for axis, head, title in ((left, "linear", "linear head"), (right, "x²", "hidden layer and x²")):
            mine = [row for row in rows if row.head == head]
            looks = (
                ("scores", "open", False, GREEN, "-", "o", "scores, open"),
                ("scores", "hidden", False, BLUE, "--", "s", "scores, hidden"),
                ("scores", "hidden", True, VERMILION, ":", "x", f"scores, hidden, {limit} queries a day"),
            )
            for attack, policy, limited, colour, line, marker, label in looks:
                chosen = [row for row in mine if (row.attack, row.policy, row.limited) == (attack, policy, limited)]
                if chosen:
                    axis.semilogy(
                        [row.queries for row in chosen],
                        [row.score_error for row in chosen],
                        line,
                        color=colour,
                        marker=marker,
                        markersize=4,
                        fillstyle="none",
                        label=label,
                    )
            needed = mine[0].unknowns
            axis.axvline(needed, color=GREY, linewidth=0.8)
            axis.annotate(
                f"{needed} unknowns",
                (needed, 1.0),
                (-4, 0),
                xycoords=("data", "axes fraction"),
                rotation=90,
                textcoords="offset points",
                ha="right",
                va="top",
                color=GREY,
                fontsize=8,
            )
            axis.set_title(f"{title}, d = {mine[0].width}")
            axis.set_xlabel("queries")
            axis.legend(frameon=False, loc="lower left")
        left.set_ylabel("relative error of the stolen head's scores")
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=140, metadata={"Software": None})
        return buffer.getvalue()
