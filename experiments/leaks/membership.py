"""`he-experiments membership`: membership inference from scores, under both policies, rounded and not."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from experiments.records.finish import DataSet, FigureFile, RecordFile
from he_infer.commands.json_option import JsonFile
from he_infer.commands.number_options import MOST_SEED

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

    from experiments.leaks.members import MembershipResult
    from experiments.present.drawing import Picture
    from models.datasets import Dataset, Split


def membership(
    data: DataSet,
    *,
    head: Annotated[Literal["linear", "mlp"], typer.Option(help="The head that is trained and attacked.")] = "mlp",
    bundle_file: Annotated[
        Path | None,
        typer.Option(
            "--bundle",
            help="Attack this bundle. Members are then the training split and others the test split, which may also "
            "differ for other reasons; without it half of the training split is held back for a clean comparison.",
        ),
    ] = None,
    limit: Annotated[int, typer.Option(min=50, help="Largest number of members, and of others.")] = 500,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the training images.")] = None,
    seed: Annotated[
        int, typer.Option(min=0, max=MOST_SEED, help="Seed of halves and training; keys are always fresh.")
    ] = 0,
    figure: FigureFile = None,
    json_file: JsonFile = None,
    record: RecordFile = None,
) -> None:
    """Attack a model with membership inference: from labels, scores, rounded scores, and from its weights.

    Example: `he-experiments membership --data pneumoniamnist --figure membership.png --json membership.json`
    """
    import numpy as np

    from experiments import encrypted
    from experiments.bundles import load_or_train, load_set
    from experiments.leaks import members
    from experiments.records.finish import format_command, refuse_missing_folders, write_outcome
    from he_infer.client.release.rounding import round_scores
    from he_infer.terminal import make_console, show_progress

    refuse_missing_folders(figure=figure, json=json_file, record=record)
    console = make_console()
    dataset = load_set(data, bundle_file)
    dataset, inside, outside = _sides(dataset, bundle_file is None, limit, seed)
    bundle = load_or_train(console, dataset, bundle_file, head=head, epochs=epochs, seed=seed)
    labels = np.concatenate([inside.labels, outside.labels])
    member = np.arange(len(labels)) < len(inside)
    features = np.concatenate([bundle.features(inside.images), bundle.features(outside.images)])
    clear = bundle.scores(features)
    signals = {
        "label alone": members.compute_label_signal(clear, labels),
        "score, in clear": members.compute_loss_signal(clear, labels),
    }
    precision = 0.0
    for policy in ("hidden", "open"):
        with show_progress(f"Encrypted under '{policy}'", len(features), console=console) as step:
            found = encrypted.evaluate_bundle(replace(bundle, policy=policy), features, _counting(step))
        signals[f"score, decrypted, {policy}"] = members.compute_loss_signal(found.scores, labels)
        if policy == "hidden":
            precision = found.plan.precision
            for digits in (precision, 0.1):
                name = f"score, decrypted, hidden, to {digits:g}"
                signals[name] = members.compute_loss_signal(round_scores(found.scores, digits), labels)
    signals["weights and features, open"] = members.compute_gradient_signal(bundle.head, features, labels)
    results = {name: members.infer_membership(signal, member, seed=seed) for name, signal in signals.items()}
    right = {
        "members": float((clear.argmax(axis=1) == labels)[member].mean()),
        "others": float((clear.argmax(axis=1) == labels)[~member].mean()),
    }
    others = "held-back half of the training split" if bundle_file is None else "test split"
    _show(console, dataset.name, bundle.name, results, len(inside), len(outside), right, others)
    write_outcome(
        console,
        "membership",
        command=format_command(
            "membership", data=data, head=head, bundle=bundle_file, limit=limit, epochs=epochs, seed=seed, figure=figure
        ),
        seed=seed,
        parameters={
            "dataset": dataset.name,
            "bundle": bundle.name,
            "head": head,
            "limit": limit,
            "epochs": epochs,
            "others": others,
        },
        figures={
            "members": len(inside),
            "others": len(outside),
            "accuracy": right,
            "rounded_to": precision,
            "signals": {name: vars(one) for name, one in results.items()},
        },
        drawn=None if figure is None else _draw(dataset.name, results),
        figure=figure,
        json=json_file,
        record=record,
    )


def _counting(step: "Callable[[int], None]") -> "Callable[[int, int], None]":
    return lambda done, _: step(done)


def _sides(dataset: "Dataset", halved: bool, limit: int, seed: int) -> "tuple[Dataset, Split, Split]":
    """The set to train on, members and others: as many of each class on both sides."""
    import numpy as np

    from experiments.bundles import remove_shared_images, replace_training_split, sample_by_class, split_in_halves
    from experiments.errors import ExperimentError

    random = np.random.default_rng(seed)
    if halved:
        inside, outside = split_in_halves(dataset.train, random)
        dataset = replace_training_split(dataset, inside)
    else:
        inside, outside = dataset.train, remove_shared_images(dataset.test, dataset.train)
    classes = len(dataset.classes)
    counts = np.minimum(*(np.bincount(side.labels, minlength=classes) for side in (inside, outside)))
    counts = np.floor(counts * min(1.0, limit / max(int(counts.sum()), 1))).astype(np.int64)
    if int(counts.sum()) < 20:
        raise ExperimentError(
            f"'{dataset.name}' leaves {int(counts.sum())} images on each side; membership needs 20 or more. Take a "
            "larger set."
        )
    return dataset, sample_by_class(inside, counts, random), sample_by_class(outside, counts, random)


def _show(
    console: "Console",
    dataset: str,
    bundle: str,
    results: "dict[str, MembershipResult]",
    inside: int,
    outside: int,
    right: dict[str, float],
    others: str,
) -> None:
    from experiments.present.screen_tables import figures_table

    title = f"{dataset}, {bundle}: {inside} members against {outside} others ({others})"
    table = figures_table(title, ("what the attacker has",), ("AUC", "95 % interval", "caught at 1 % false"))
    for name, one in results.items():
        table.add_row(name, f"{one.auc:.3f}", f"{one.low:.3f} to {one.high:.3f}", f"{one.caught:.1%}")
    console.print(table)
    console.print(
        f"An AUC of 0.5 is a guess. Accuracy: {right['members']:.3f} on members, {right['others']:.3f} on others; what "
        "this gap gives away, no encryption hides.",
        highlight=False,
    )


def _draw(dataset: str, results: "dict[str, MembershipResult]") -> "Picture":
    from experiments.present.drawing import BLUE, GREY, ORANGE, VERMILION, draw_picture

    def look(name: str) -> tuple[str, str]:
        if "open" in name:
            return VERMILION, "s"
        return (BLUE, "o") if "hidden" in name else (ORANGE, "^") if "clear" in name else (GREY, "D")

    def draw(figure: Any) -> None:
        axis = figure.subplots()
        for place, (name, one) in enumerate(results.items()):
            colour, marker = look(name)
            axis.errorbar(
                one.auc,
                place,
                xerr=[[max(one.auc - one.low, 0)], [max(one.high - one.auc, 0)]],
                fmt=marker,
                color=colour,
                capsize=4,
                markersize=7,
            )
            axis.annotate(f"{one.auc:.3f}", (one.auc, place), xytext=(0, 7), textcoords="offset points", ha="center")
        axis.axvline(0.5, color="black", linestyle="--", linewidth=1)
        axis.set_yticks(range(len(results)), list(results))
        axis.set_ylim(len(results) - 0.5, -0.7)
        low = min(0.45, *(one.low for one in results.values())) - 0.01
        axis.set_xlim(low, max(0.6, *(one.high for one in results.values())) + 0.01)
        axis.set_xlabel("AUC of membership inference with its 95 % interval (dashed: a guess)")
        axis.set_title(dataset, fontsize=10, loc="left")

    return draw_picture(
        draw, (7.2, 3.4), "Points with intervals: membership inference's AUC for each view of the attacker"
    )
