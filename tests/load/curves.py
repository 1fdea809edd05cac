"""The curves of a load run: throughput, latency, refusals and memory over the offered load."""

import statistics
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

_BLUE, _RED, _GREY = "#1f5fa8", "#c23b22", "#777777"


def draw(measured: dict[str, Any], path: Path) -> None:
    """Four panels over the offered load in multiples of the capacity; a dot a repeat, a line through the medians."""
    points = measured["points"]
    figure = Figure(figsize=(10, 7), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(2, 2)
    rates: dict[float, list[float]] = {}
    for point in points:
        rates.setdefault(point["factor"], []).append(point["per second"] / point["capacity"])
    best = max(statistics.median(values) for values in rates.values())
    _panel(panels[0, 0], points, [("answered", lambda p: p["per second"] / p["capacity"] / best, _BLUE)])
    panels[0, 0].set(title="Throughput, of the best median", ylim=(0, None))
    panels[0, 0].axhline(0.9, color=_GREY, linestyle=":", linewidth=1)
    _panel(
        panels[0, 1],
        points,
        [
            ("accepted, 95 %", lambda p: p["latency p95"], _BLUE),
            ("accepted, median", lambda p: p["latency p50"], "#7aa6d8"),
            ("429, 95 %", lambda p: p["429 p95"], _RED),
        ],
    )
    panels[0, 1].set(title="Time to the answer, seconds", yscale="log")
    _panel(panels[1, 0], points, [("refused with 429", lambda p: p["refused 429"] / max(1, p["sent"]), _RED)])
    panels[1, 0].set(title="Share of the requests refused", ylim=(0, 1))
    _panel(panels[1, 1], points, [("peak", lambda p: p["memory peak"] / 1e6, _BLUE)])
    panels[1, 1].set(title="Memory of all the server's processes, MB", ylim=(0, None))
    for panel in panels.flat:
        panel.set_xlabel("offered load, in multiples of the capacity")
        panel.grid(visible=True, color="#dddddd", linewidth=0.6)
        panel.legend(frameon=False, loc="best")
        panel.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def _panel(panel: Any, points: list[dict[str, Any]], series: list[tuple[str, Any, str]]) -> None:
    factors = sorted({point["factor"] for point in points})
    for label, value, colour in series:
        medians = []
        for factor in factors:
            here = [value(point) for point in points if point["factor"] == factor and value(point) is not None]
            panel.plot([factor] * len(here), here, "o", color=colour, markersize=4, alpha=0.5)
            medians.append(statistics.median(here) if here else None)
        known = [(factor, median) for factor, median in zip(factors, medians, strict=True) if median is not None]
        panel.plot(*zip(*known, strict=True), color=colour, label=label, linewidth=1.8) if known else None
