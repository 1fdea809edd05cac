"""A plan as a table's rows and as a drawing of its steps, in plain text."""

import math

from he_infer.ckks.layouts.last_layer import Tile
from he_infer.ckks.planning.cost import Cost
from he_infer.ckks.planning.leakage import bits_per_query
from he_infer.ckks.planning.order import Moment
from he_infer.ckks.planning.plan import Plan, Stage


def tabulate(plan: Plan, cost: Cost) -> list[tuple[str, str]]:
    """List a plan's properties and predictions as (name, value) rows."""
    return [
        ("parameters", str(plan.parameters)),
        ("images a request", str(plan.batch)),
        ("policy", plan.policy),
        ("key switches", str(plan.key_switches)),
        ("keys", _keys(plan)),
        ("request", f"{plan.sources} ciphertexts, {cost.bytes_up / 1e3:.1f} KB"),
        ("answer", f"{plan.targets} ciphertexts, {cost.bytes_down / 1e3:.1f} KB"),
        ("keys, once", f"{cost.key_bytes / 1e6:.2f} MB"),
        ("encoded weights", f"{cost.weight_bytes / 1e6:.1f} MB of memory"),
        ("server time", f"{cost.server_ms:.2f} ms, {cost.server_ms / plan.batch:.3f} ms an image"),
        ("error of a score", f"at most {plan.error:.1e}; planned for {plan.precision:g}"),
        *_describe_leakage(plan),
    ]


def draw(plan: Plan) -> list[str]:
    """Draw the steps from the client's features to its scores, one line each."""
    level, scale = plan.parameters.levels, math.log2(plan.input_scale)
    lines = [
        f"client   {plan.width} features x {plan.batch} -> {_describe_packing(plan)}",
        f"  │      level {level}, scale 2^{scale:.0f}",
    ]
    for index, stage in enumerate(plan.stages):
        postponed = index == len(plan.stages) - 1 and plan.order.output is Moment.BEFORE
        lines += _stage(stage, plan.order.folds, postponed=postponed)
        level -= stage.levels - postponed
        lines.append(f"  │      level {level}")
    output = plan.output
    where = (
        f"{output.chunk} features and {output.rows} rows an image in {output.ring_size} coefficients"
        if isinstance(output, Tile)
        else f"{output.rows} scores an answer, read as coefficients"
    )
    lines.append(f"server   {output.inputs} -> {output.outputs}: products with weights alone ({where})")
    if level:
        lines.append("  ├ ÷      rescale")
    if plan.refreshes:
        lines.append("  │      add an encryption of zero, and noise as wide as the precision to each score")
    lines.append(f"client   {plan.targets} answer{'s' * (plan.targets > 1)} -> {plan.classes} scores x {plan.batch}")
    return lines


def _describe_leakage(plan: Plan) -> list[tuple[str, str]]:
    """Make a row with the most bits of the head that a request can reveal."""
    if plan.policy != "hidden":
        return []
    told, without = bits_per_query(plan), bits_per_query(plan, with_noise=False)
    return [("revealed of the head", f"at most {told:.0f} bits a request; {without:.0f} without the server's noise")]


def _stage(stage: Stage, order: Moment, *, postponed: bool) -> list[str]:
    layout = stage.layout
    lines = [f"server   {layout.inputs} -> {layout.outputs}: {layout.diagonals} diagonals"]
    for count, what in (
        (layout.sources * len(layout.baby), "baby rotations of the input"),
        (layout.targets * len(layout.giant), "giant rotations of sums"),
    ):
        if count:
            lines.append(f"  ├ ↻ {count:4d} {what}")
    rescale = ["  ├ ÷      rescale"] if stage.rescaled else []
    folds = []
    if layout.folds:
        steps = ", ".join(map(str, layout.folds))
        folds.append(f"  ├ ↻ {layout.targets * len(layout.folds):4d} folds by {steps}")
    if layout.conjugated:
        folds.append(f"  ├ ↻ {layout.targets:4d} conjugation, which drops imaginary parts")
    lines += rescale + folds if order is Moment.AFTER else folds + rescale
    name = {2: "v^2", 3: "v (v^2 + e)", 4: "(v^2 + e)^2 + f v"}[stage.degree]
    after = "relinearised" if postponed else "relinearised and rescaled"
    lines.append(f"  ├ × {layout.targets * stage.multiplications:4d} {name}, {after}")
    return lines


def _describe_packing(plan: Plan) -> str:
    count = f"{plan.sources} ciphertext{'s' * (plan.sources > 1)}"
    if not plan.stages:
        return f"{count}, features as coefficients"
    layout = plan.stages[0].layout
    copies = layout.copies * layout.lanes * layout.parts
    parts = ", in real and imaginary parts" if layout.parts == 2 else ""
    return f"{count}, {copies} copies, each shifted by {layout.diagonals}{parts}"


def _keys(plan: Plan) -> str:
    names = [
        f"{len(plan.galois_elements)} Galois" if plan.galois_elements else "",
        "relinearisation" if plan.relinearise else "",
        "public (encryptions of zero)" if plan.refreshes else "",
    ]
    return ", ".join(name for name in names if name) or "none"
