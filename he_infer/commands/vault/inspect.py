"""`he-infer inspect`: the public headers of sealed objects, without a key."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich import box

from he_infer.commands.json_option import JsonFile
from he_infer.commands.vault.batch import Sources
from he_infer.terminal import PlainTable, clean, make_console

if TYPE_CHECKING:
    from cipher.vault.forms import SealedDescription


def inspect(paths: Sources, *, json_file: JsonFile = None) -> None:
    """Describe sealed objects, without a key: form, version, which key opens them, pixels, size.

    Nothing of it is authenticated; `verify` checks it with the key.

    Example: `he-infer inspect vault/`
    """
    from cipher.errors import CipherError
    from cipher.vault.forms import describe_path
    from cipher.vault.selection import select_sealed
    from he_infer.files import write_json

    selection = select_sealed(paths)
    objects, others = selection.objects, selection.others
    described: dict[Path, SealedDescription] = {}
    failures: dict[Path, CipherError] = {found.path: error for found, error in selection.problems}
    for file in objects:
        try:
            described[file.path] = describe_path(file.path)
        except CipherError as error:
            if len(objects) == 1:
                raise
            failures[file.path] = error
    table = PlainTable(
        "object", "form", "version", "key", "opens for", "holds", "pixels", "bytes", "sealed", box=box.SIMPLE
    )
    for path, found in described.items():
        table.add_row(path.name, *_row(found))
    make_console(width=None if make_console().is_terminal else 160).print(table)
    for path, failure in failures.items():
        typer.echo(clean(f"failed: {path}: {failure}"), err=True)
    if others:
        typer.echo(f"{others} other files are no sealed objects.")
    if json_file is not None:
        figures = [_figures(path, found) for path, found in described.items()]
        broken = [{"path": str(path), "message": str(failure)} for path, failure in failures.items()]
        write_json(json_file, {"objects": figures, "failures": broken, "not_sealed": others})
    if failures:
        raise typer.Exit(1)


def _row(found: "SealedDescription") -> tuple[str, ...]:
    inner = found.container
    pixels = "" if inner.shape is None else f"{' x '.join(map(str, inner.shape))} {inner.dtype}"
    return (
        found.form,
        f"{inner.version.object_id[:8]} v{inner.version.number}",
        " ".join(key_id[:8] for key_id in inner.key_ids),
        " ".join(one.key_id[:8] + (" (recovery)" if one.recovery else "") for one in inner.recipients),
        inner.labels.get("holds", inner.kind.name.lower().replace("_", " ")),
        pixels,
        f"{inner.payload_bytes:,}",
        f"{inner.sealed_bytes:,}",
    )


def _figures(path: Path, found: "SealedDescription") -> dict[str, object]:
    inner = found.container
    return {
        "path": str(path),
        "form": found.form,
        "kind": inner.kind.name.lower(),
        "object_id": inner.version.object_id,
        "version": inner.version.number,
        "key_ids": list(inner.key_ids),
        "dtype": inner.dtype,
        "shape": None if inner.shape is None else list(inner.shape),
        "payload_bytes": inner.payload_bytes,
        "sealed_bytes": inner.sealed_bytes,
        "chunks": inner.chunks,
        "bound": inner.bound,
        "recipients": [{"key_id": one.key_id, "recovery": one.recovery} for one in inner.recipients],
        "frames_in_group": inner.frames,
        "labels": inner.labels,
        "sop_instance_uid": found.identifiers.instance if found.identifiers else None,
        "study_instance_uid": found.identifiers.study if found.identifiers else None,
        "patient_id": found.identifiers.patient_id if found.identifiers else None,
    }
