"""The figure of the extraction attacks: error against number of queries."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from experiments.leaks.extraction_attack import ExtractionRow
from experiments.present.drawing import BLUE, GREEN, GREY, VERMILION, Picture, draw_picture

_TOP = 30.0
"""Largest error on the axis: larger ones are drawn here, since they say nothing about the head."""


def draw_extraction(rows: Sequence[ExtractionRow], limit: int) -> Picture:
    """The linear head on the left, the quadratic one on the right; score errors on a logarithmic axis."""
    looks = (
        ("scores", "open", False, GREEN, "-", "o", "scores, open"),
        ("scores", "hidden", False, BLUE, "--", "s", "scores, hidden"),
        ("scores", "hidden", True, VERMILION, ":", "x", f"scores, hidden, {limit} queries a day"),
        ("heights", "open", False, GREEN, "none", "^", "two heights a query, open"),
        ("heights", "hidden", False, BLUE, "none", "v", "two heights a query, hidden"),
        ("crafted key", "hidden", False, BLUE, "none", "P", "second polynomial under a crafted key, hidden"),
    )

    def drawn(figure: Figure) -> None:
        left, right = figure.subplots(1, 2, sharey=True)
        for axis, head, title in ((left, "linear", "linear head"), (right, "x²", "hidden layer and x²")):
            mine = [row for row in rows if row.head == head]
            for attack, policy, limited, colour, line, marker, label in looks:
                chosen = [row for row in mine if (row.attack, row.policy, row.limited) == (attack, policy, limited)]
                if chosen:
                    queries, errors = [row.queries for row in chosen], [min(row.score_error, _TOP) for row in chosen]
                    style = {"color": colour, "marker": marker, "markersize": 5, "fillstyle": "none"}
                    axis.semilogy(queries, errors, linestyle=line, label=label if head == "linear" else None, **style)
            needed = mine[0].unknowns
            axis.axvline(needed, color=GREY, linewidth=0.8)
            axis.annotate(
                f"{needed} unknowns a score",
                (needed, 0.98),
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
            axis.set_ylim(top=2 * _TOP)
        left.set_ylabel(f"relative error of the stolen head's scores\n({_TOP:g}: that or more)")
        figure.legend(loc="outside lower center", ncols=4, frameon=False, fontsize=8)

    return draw_picture(drawn, (9.0, 4.3), "Error of a stolen linear and quadratic head against the number of queries")
