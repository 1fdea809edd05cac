"""The figure of the extraction attacks: error against number of queries."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from experiments.drawing import BLUE, GREEN, GREY, VERMILION, Picture, picture

if TYPE_CHECKING:
    from experiments.extraction import Row


def draw(rows: Sequence["Row"], limit: int) -> Picture:
    """The linear head on the left, the quadratic one on the right; score errors on a logarithmic axis."""
    looks = (
        ("scores", "open", False, GREEN, "-", "o", "scores, open"),
        ("scores", "hidden", False, BLUE, "--", "s", "scores, hidden"),
        ("scores", "hidden", True, VERMILION, ":", "x", f"scores, hidden, {limit} queries a day"),
        ("coefficients", "open", False, GREEN, "", "^", "other coefficients, open"),
        ("coefficients", "hidden", False, BLUE, "", "v", "other coefficients, hidden"),
        ("ciphertext", "open", False, GREEN, "", "D", "second polynomial, open"),
        ("ciphertext", "hidden", False, BLUE, "", "P", "second polynomial, hidden"),
    )

    def drawn(figure: Figure) -> None:
        left, right = figure.subplots(1, 2, sharey=True)
        for axis, head, title in ((left, "linear", "linear head"), (right, "x²", "hidden layer and x²")):
            mine = [row for row in rows if row.head == head]
            for attack, policy, limited, colour, line, marker, label in looks:
                chosen = [row for row in mine if (row.attack, row.policy, row.limited) == (attack, policy, limited)]
                if chosen:
                    queries, errors = [row.queries for row in chosen], [row.score_error for row in chosen]
                    style = {"color": colour, "marker": marker, "markersize": 4, "fillstyle": "none"}
                    axis.semilogy(queries, errors, line, label=label, **style)
            needed = mine[0].unknowns
            axis.axvline(needed, color=GREY, linewidth=0.8)
            axis.annotate(
                f"{needed} unknowns a score",
                (needed, 1.0),
                (-4, 0),
                xycoords=("data", "axes fraction"),
                textcoords="offset points",
                rotation=90,
                ha="right",
                va="top",
                color=GREY,
                fontsize=8,
            )
            axis.set_title(f"{title}, d = {mine[0].width}", fontsize=10)
            axis.set_xlabel("queries")
            axis.legend(frameon=False, loc="lower left")
        left.set_ylabel("relative error of the stolen head's scores")

    return picture(drawn, (9.0, 3.9), "Error of a stolen linear and quadratic head against the number of queries")
