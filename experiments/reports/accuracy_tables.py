"""`he-experiments accuracy-tables RECORDS`: the records of a grid as Markdown tables, for the docs."""

import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from experiments.accuracy.grid import CANDIDATES, KIND
from experiments.errors import RecordError
from experiments.present.markdown_tables import Table, format_spread
from experiments.records.records import Record, keep_latest, read_records

SIGNIFICANT = 0.05
"""McNemar's P-value below which clear and encrypted labels are said to differ."""

Key = tuple[Any, ...]


def accuracy_tables(
    records: Annotated[Path, typer.Argument(metavar="RECORDS", help="Records that `accuracy --grid` wrote (.jsonl).")],
    markdown: Annotated[Path | None, typer.Option(dir_okay=False, help="Write here rather than to the screen.")] = None,
) -> None:
    """Turn the records of `accuracy --grid` into Markdown tables, with every configuration that missed.

    Example: `he-experiments accuracy-tables accuracy.jsonl --markdown tables.md`
    """
    from experiments.records.finish import refuse_missing_folders
    from he_infer.files import write_text

    refuse_missing_folders(markdown=markdown)
    text = render_tables(read_records(records))
    if markdown is None:
        typer.echo(text)
    else:
        write_text(markdown, text + "\n")


def render_tables(found: Sequence[Record]) -> str:
    """All tables, as Markdown.

    Raises:
        RecordError: there is no record of this kind.
    """
    mine = [record for record in keep_latest(list(found)).values() if record.kind == KIND]
    if not mine:
        raise RecordError(f"There is no record of the kind '{KIND}'. Expected what `accuracy --grid` wrote.")
    good = [record for record in mine if "failed" not in record.figures]
    parts = [_provenance(mine)]
    for dataset in dict.fromkeys(record.figures["dataset"] for record in good):
        own = [record for record in good if record.figures["dataset"] == dataset]
        parts += [f"### {dataset}", _images(own), _quality(own), _encrypted(own), _intervals(own)]
    parts += ["### Configurations that missed", _missed(mine)]
    return "\n\n".join(parts)


def _provenance(found: Sequence[Record]) -> str:
    commands = dict.fromkeys(record.command for record in found)
    machines = dict.fromkeys(
        f"{one.machine['processor']}, {one.machine['cores']} cores, {one.machine['memory_gb']} GB" for one in found
    )
    versions = dict.fromkeys(
        ", ".join(f"{name} {version}" for name, version in one.versions.items() if name != "commit") for one in found
    )
    commits = dict.fromkeys(str(one.versions["commit"]) for one in found if "commit" in one.versions)
    lines = [f"{len(found)} runs on {'; '.join(machines)}. Versions: {'; '.join(versions)}."]
    if commits:
        lines.append(f"Source: {', '.join(commits)}.")
    return " ".join(lines) + "\n\n```\n" + "\n".join(commands) + "\n```"


def _images(found: Sequence[Record]) -> str:
    first = found[0].figures
    classes = ", ".join(first["classes"])
    limits = dict.fromkeys(record.parameters["limit"] for record in found)
    whole = f"The whole test set of {first['n_test']} images."
    part = " ".join(f"**Only the first {limit} of {first['n_test']} test images.**" for limit in limits if limit)
    shown = f"{whole if None in limits else ''} {part}".strip()
    return f"{shown} Classes: {classes}. Mean and standard deviation over the seeds named."


def _quality(found: Sequence[Record]) -> str:
    rows = []
    for key, group in _groups(found).items():
        clear = [record.figures["clear"] for record in group]
        recalls = [
            _mean([one["recall"][label] for one in clear], 3) for label in range(len(group[0].figures["classes"]))
        ]
        rows.append(
            (
                *_label_key(key),
                _seeds(group),
                format_spread([one["accuracy"] for one in clear]),
                _mean([record.figures.get("majority_share") for record in group], 3),
                format_spread([one["auc"] for one in clear]),
                format_spread([one["balanced_accuracy"] for one in clear]),
                " / ".join(recalls),
                format_spread([one["ece"] for one in clear]),
                _percent([record.figures.get("share_outside") for record in group]),
            )
        )
    heading = (
        "features",
        "head",
        "seeds",
        "accuracy",
        "largest class",
        "AUC",
        "balanced accuracy",
        "recall by class",
        "ECE",
    )
    return "In clear:\n\n" + Table((*heading, "inputs out of range"), tuple(rows)).to_markdown()


def _encrypted(found: Sequence[Record]) -> str:
    rows = []
    for key, group in _groups(found).items():
        own = [record.figures for record in group if "encrypted" in record.figures]
        if not own:
            continue
        other = [one["encrypted"] for one in own]
        noisy = [one["simulated"] for one in own if "simulated" in one]
        images = sum(one["n"] for one in own)
        rows.append(
            (
                *_label_key(key),
                format_spread([one["accuracy"] for one in noisy]),
                format_spread([one["accuracy"] for one in other]),
                format_spread([one["auc"] for one in other]),
                f"{sum(one['flips'] for one in other)} of {images}",
                str(sum(one["flips_beyond_error"] for one in other)),
                f"{min(one['mcnemar_p'] for one in other):.2g}",
                _power(statistics.median(one["score_error"]["median"] for one in other)),
                _power(max(one["score_error"]["p99"] for one in other)),
                _power(max(one["score_error"]["largest"] for one in other)),
                f"{statistics.median(one['price']['evaluate_ms_median'] for one in own):.1f}",
                str(own[0]["price"]["key_switches"]),
                f"{own[0]['price']['evaluation_key_bytes'] / 1e6:.1f}",
            )
        )
    heading = (
        "features",
        "head",
        "accuracy, simulated",
        "accuracy, encrypted",
        "AUC, encrypted",
        "labels that differ",
        "beyond the error",
        "least McNemar P",
        "error: median",
        "99 %",
        "largest",
        "server ms an image",
        "key switches",
        "keys MB",
    )
    return "Encrypted, against the same head in clear:\n\n" + Table(heading, tuple(rows)).to_markdown()


def _epochs(chosen: int | list[int]) -> str:
    """The chosen epoch, or those of each tower."""
    return str(chosen) if isinstance(chosen, int) else ", ".join(map(str, chosen))


def _intervals(found: Sequence[Record]) -> str:
    rows = []
    for record in sorted(found, key=lambda one: (one.parameters["width"], one.seed)):
        if record.parameters["head"] != "deployed":
            continue
        clear, other = record.figures["clear"], record.figures.get("encrypted")
        rows.append(
            (
                str(record.parameters["width"]),
                str(record.seed),
                f"{clear['accuracy']:.4f} ({_interval(clear['accuracy_interval'])})",
                f"{_figure(clear['auc'])} ({_interval(clear['auc_interval'])})",
                "" if other is None else f"{other['accuracy']:.4f} ({_interval(other['accuracy_interval'])})",
                "" if other is None else f"{_figure(other['auc'])} ({_interval(other['auc_interval'])})",
                f"{_epochs(record.figures['training']['chosen_epoch'])} of {record.figures['training']['epochs']}",
                f"{record.figures['training']['cpu_seconds']:.0f}",
            )
        )
    if not rows:
        return ""
    heading = ("features", "seed", "accuracy, clear", "AUC, clear", "accuracy, encrypted", "AUC, encrypted")
    return (
        f"The deployed head ({CANDIDATES['deployed']}), seed by seed, with 95 % bootstrap intervals over the test "
        "images:\n\n" + Table((*heading, "epoch", "training, CPU s"), tuple(rows)).to_markdown()
    )


def _missed(found: Sequence[Record]) -> str:
    lines = []
    for record in found:
        what = f"{record.figures['dataset']}, {', '.join(_label_key(_key(record)))}, seed {record.seed}"
        if "failed" in record.figures:
            lines.append(f"- {what}: {record.figures['failed']}")
            continue
        other = record.figures.get("encrypted")
        if other is None:
            continue
        if other["flips_beyond_error"]:
            lines.append(f"- {what}: {other['flips_beyond_error']} labels changed beyond the error of the scores")
        largest, wanted = other["score_error"]["largest"], record.parameters["precision"]
        if largest > wanted:
            lines.append(
                f"- {what}: a score is off by {largest:.1e}, more than the {wanted:g} that its plan was made for"
            )
        if other["mcnemar_p"] < SIGNIFICANT:
            lines.append(f"- {what}: clear and encrypted labels differ, McNemar P = {other['mcnemar_p']:.2g}")
    return "\n".join(lines) if lines else "None."


def _key(record: Record) -> Key:
    asked = record.parameters
    return tuple(
        asked[name] for name in ("extractor", "width", "head", "policy", "precision", "batch", "epochs", "limit")
    )


def _groups(found: Iterable[Record]) -> dict[Key, list[Record]]:
    """Records that differ in nothing but the seed, by width and in the order of the heads."""
    grouped: dict[Key, list[Record]] = {}
    for record in found:
        grouped.setdefault(_key(record), []).append(record)
    order = list(CANDIDATES)
    return dict(sorted(grouped.items(), key=lambda one: (one[0][0], -one[0][1], order.index(one[0][2]), str(one[0]))))


def _label_key(key: Key) -> tuple[str, str]:
    extractor, width, head, policy, precision, batch, epochs, limit = key
    notes = [CANDIDATES[head]]
    if policy != "hidden":
        notes.append(f"policy {policy}")
    if precision != 1e-3:
        notes.append(f"precision {precision:g}")
    if batch != 1:
        notes.append(f"{batch} images a request")
    if epochs is not None:
        notes.append(f"{epochs} epochs")
    if limit is not None:
        notes.append(f"first {limit} images")
    return f"{width}" if extractor == "cnn" else f"{width} ({extractor})", ", ".join(notes)


def _seeds(group: Sequence[Record]) -> str:
    return ", ".join(str(seed) for seed in sorted(record.seed for record in group))


def _mean(values: Sequence[float | None], digits: int) -> str:
    sound = [value for value in values if value is not None]
    return f"{statistics.fmean(sound):.{digits}f}" if sound else "–"


def _percent(values: Sequence[float | None]) -> str:
    sound = [value for value in values if value is not None]
    return f"{100 * statistics.fmean(sound):.1f} %" if sound else "–"


def _power(value: float) -> str:
    return f"{value:.1e}"


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _interval(values: Sequence[float | None]) -> str:
    return " to ".join("–" if value is None else f"{value:.3f}" for value in values)
