"""`he-experiments peers`: the same two heads under this project's engines and under other libraries."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from he_infer.commands.json_option import JsonFile

if TYPE_CHECKING:
    from experiments.cost.other_interpreter import PeerProgram
    from he_infer.head.layers import Head

_WIDTHS = {"512->10": (512, 10), "512->64->x^2->10": (512, 64, 10)}
_LARGEST_ERROR = 1e-2
"""Beyond it a peer's scores are taken for wrong: scores range over 6 to 13."""


@dataclass(frozen=True)
class PeerRow:
    """A library's time for one request of one image, and what its scores are worth."""

    head: str
    library: str
    parameters: str
    cpu_ms: float
    """Median of processor time, all threads."""
    cpu_ms_low: float | None
    """First quartile; None for three requests."""
    cpu_ms_high: float | None
    """Third quartile."""
    max_abs_error: float
    licence: str


def peers(
    *,
    openfhe_python: Annotated[Path | None, typer.Option(help="A Python interpreter with openfhe.")] = None,
    seal_python: Annotated[Path | None, typer.Option(help="A Python interpreter with seal-python and numpy.")] = None,
    orion_python: Annotated[
        Path | None, typer.Option(help="A Python interpreter with orion-v2-compiler and orion-v2-evaluator.")
    ] = None,
    desilofhe_python: Annotated[
        Path | None, typer.Option(help="A Python interpreter with desilofhe; its licence allows no commercial use.")
    ] = None,
    tenseal: Annotated[bool, typer.Option("--tenseal/--no-tenseal", help="Time TenSEAL's mm as well.")] = True,
    repeats: Annotated[int, typer.Option(min=3, help="Requests; medians are of these.")] = 15,
    json_file: JsonFile = None,
) -> None:
    """Time a linear head and an MLP, one image a request, under other libraries beside this project's engines.

    Each library runs in an environment of its own, in the layout that its public interface offers. Times are processor
    time of the server's part; a library whose scores are wrong is an error.

    Example: `he-experiments peers --openfhe-python openfhe/bin/python --seal-python seal/bin/python`
    """
    from experiments.cost.speed import make_head
    from he_infer.files import write_json
    from he_infer.terminal import make_console

    console = make_console()
    programs = list_programs()
    named = (openfhe_python, seal_python, orion_python, desilofhe_python)
    chosen = [(program, python) for program, python in zip(programs, named, strict=True) if python is not None]
    rows: list[PeerRow] = []
    for name, widths in _WIDTHS.items():
        head = make_head(widths)
        with console.status(f"{name}, this project's engines"):
            found = list(_measure_here(name, widths, repeats))
        if tenseal:
            with console.status(f"{name}, TenSEAL"):
                found.append(_measure_tenseal(name, head))
        for program, python in chosen:
            with console.status(f"{name}, {program.name}"):
                found.append(measure_peer(name, head, program, python, repeats))
        _show(console, name, found)
        rows += found
    absent = [program.name for program, python in zip(programs, named, strict=True) if python is None]
    if absent:
        console.print(
            f"Left out: {', '.join(absent)}. Each needs an environment of its own; name its interpreter.",
            highlight=False,
        )
    if json_file is not None:
        write_json(json_file, {"rows": [asdict(row) for row in rows]})


def list_programs() -> "list[PeerProgram]":
    """The libraries that have a program here, in the order of their options."""
    from experiments.cost.other_interpreter import PeerProgram

    return [
        PeerProgram("OpenFHE", "peers.openfhe_peer", "openfhe"),
        PeerProgram("seal-python", "peers.seal_python_peer", "seal-python numpy"),
        PeerProgram("Orion v2", "peers.orion_peer", "orion-v2-compiler orion-v2-evaluator"),
        PeerProgram("desilofhe", "peers.desilofhe_peer", "desilofhe"),
    ]


def measure_peer(name: str, head: "Head", program: "PeerProgram", python: Path, repeats: int) -> PeerRow:
    """Send random images through a peer's program.

    Raises:
        ExperimentError: the program did not run, or its scores are wrong.
    """
    import numpy as np

    from experiments.cost.speed import make_features
    from experiments.errors import ExperimentError

    features = make_features(repeats, head.width, seed=1)
    arrays: dict[str, Any] = {"features": features}
    for index, layer in enumerate(head.linear):
        arrays |= {f"weights{index}": layer.weight, f"biases{index}": layer.bias}
    found = program.run(python, **arrays)
    expected = head.evaluate(features)
    try:
        scores = np.array(found["scores"], dtype=np.float64)
        cpu = np.array(found["cpu_ms"], dtype=np.float64)
        said = [str(found[key]) for key in ("parameters", "version", "licence")]
    except (KeyError, TypeError, ValueError):
        raise ExperimentError(f"{program.name} printed other figures than scores and times with {python}.") from None
    error = float(np.abs(scores - expected).max()) if scores.shape == expected.shape else float("inf")
    if not error <= _LARGEST_ERROR or len(cpu) != repeats:
        raise ExperimentError(
            f"{program.name} gave wrong scores for {name}: their largest error is {error:.1e}, and at most "
            f"{_LARGEST_ERROR:.0e} was expected. Its time says nothing."
        )
    low, median, high = (float(value) for value in np.percentile(cpu, [25, 50, 75]))
    return PeerRow(name, f"{program.name} {said[1]}", said[0], median, low, high, error, said[2])


def _measure_here(name: str, widths: tuple[int, ...], repeats: int) -> Iterator[PeerRow]:
    from experiments.cost.speed import Job, measure

    for row in measure(Job(name, widths, "hidden"), repeats, None):
        low, high = row.server_ms_low, row.server_ms_high
        yield PeerRow(name, f"here, {row.engine}", row.plan, row.server_ms, low, high, row.max_abs_error, "Apache-2.0")


def _measure_tenseal(name: str, head: "Head") -> PeerRow:
    from importlib.metadata import version

    from experiments.cost.speed import make_features
    from experiments.cost.speed_peer import milliseconds

    spent, error = milliseconds(head, make_features(3, head.width), 3)
    return PeerRow(name, f"TenSEAL {version('tenseal')} mm", "N = 8192", spent, None, None, error, "Apache-2.0")


def _show(console: Any, name: str, rows: list[PeerRow]) -> None:
    from rich.table import Table

    from experiments.present.screen_tables import format_short

    fastest = min(row.cpu_ms for row in rows)
    table = Table(title=f"{name}, one image a request", title_justify="left")
    for column in ("library", "parameters", "ms (quartiles)", "times", "error", "licence"):
        table.add_column(column)
    for row in rows:
        spread = format_short(row.cpu_ms)
        if row.cpu_ms_low is not None and row.cpu_ms_high is not None:
            spread += f" ({format_short(row.cpu_ms_low)} to {format_short(row.cpu_ms_high)})"
        times = format_short(row.cpu_ms / fastest)
        table.add_row(row.library, row.parameters, spread, times, f"{row.max_abs_error:.0e}", row.licence)
    console.print(table)
