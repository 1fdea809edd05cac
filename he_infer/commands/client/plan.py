"""`he-infer plan`: shows the plan for a bundle's head under encryption, and its costs."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from he_infer.commands.json_option import JsonFile
from he_infer.commands.number_options import require_finite
from he_infer.terminal import PlainTable, make_console

if TYPE_CHECKING:
    from he_infer.ckks.parameters import Parameters


def plan(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="A bundle file (.hebundle).")],
    *,
    batch: Annotated[int, typer.Option(min=1, help="Images a request.")] = 1,
    policy: Annotated[str | None, typer.Option(help="'hidden' or 'open'; by default the bundle's own.")] = None,
    precision: Annotated[
        float, typer.Option(callback=require_finite, help="Largest accepted error of a score.")
    ] = 1e-3,
    ring_size: Annotated[int | None, typer.Option(help="Your own ring size N, with --modulus-bits.")] = None,
    modulus_bits: Annotated[
        str | None, typer.Option(help="Your own chain: bits of the primes with commas, the special prime last.")
    ] = None,
    calibrated: Annotated[
        bool,
        typer.Option(
            "--calibrate/--table", help="Time the plan's primitives on this machine, or use the stored table."
        ),
    ] = True,
    json_file: JsonFile = None,
) -> None:
    """Show the plan for a bundle's head: parameters, steps, keys, and predicted time, bytes, memory and error.

    Example: `he-infer plan chest.hebundle --batch 64 --json plan.json`
    """
    from he_infer.ckks.planning.circuit import build_circuit
    from he_infer.ckks.planning.cost import count_primitives, estimate_cost
    from he_infer.ckks.planning.describe import draw, tabulate
    from he_infer.ckks.planning.search import make_plan
    from he_infer.files import write_json
    from he_infer.head.bundle import HeadBundle

    loaded = HeadBundle.load(bundle)
    made = make_plan(
        loaded.head,
        batch=batch,
        policy=policy or loaded.policy,
        precision=precision,
        input_bound=loaded.input_bound,
        parameters=_own(ring_size, modulus_bits),
    )
    form = build_circuit(loaded.head)
    prices = None
    if calibrated:
        from he_infer.client.primitive_times import calibrate

        prices = calibrate(made.parameters, [(each.primitive, each.level) for each in count_primitives(made, form)])
    spent = estimate_cost(made, form, prices)
    console = make_console()
    table = PlainTable(title=f"{loaded.name}: plan {made.digest[:16]}", title_justify="left", show_header=False)
    for name, value in tabulate(made, spent):
        table.add_row(name, value)
    console.print(table)
    for line in draw(made):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    if json_file is not None:
        import json

        write_json(
            json_file,
            {
                "model": loaded.model_id,
                "digest": made.digest,
                "plan": json.loads(made.to_json()),
                "key_switches": made.key_switches,
                "server_ms": round(spent.server_ms, 4),
                "calibrated": calibrated,
                "bytes_up": spent.bytes_up,
                "bytes_down": spent.bytes_down,
                "evaluation_key_bytes": spent.key_bytes,
                "weight_bytes": spent.weight_bytes,
                "error": made.error,
                "primitives": [
                    {"primitive": each.primitive, "level": each.level, "times": each.times} for each in spent.counts
                ],
            },
        )


def _own(ring_size: int | None, modulus_bits: str | None) -> "Parameters | None":
    """Parse the user's own parameters and check them against the security budget."""
    from he_infer.ckks.parameters import Parameters
    from he_infer.errors import UsageError

    if ring_size is None and modulus_bits is None:
        return None
    if ring_size is None or modulus_bits is None:
        raise UsageError("--ring-size and --modulus-bits belong together, such as 8192 and 60,36,36,60.")
    try:
        bits = tuple(int(text) for text in modulus_bits.split(","))
    except ValueError:
        raise UsageError(
            f"--modulus-bits is {modulus_bits!r}; expected numbers with commas, such as 60,36,60."
        ) from None
    return Parameters(ring_size, bits)
