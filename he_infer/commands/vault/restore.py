"""`he-infer restore` and `he-infer verify`: sealed objects opened, or only checked."""

from pathlib import Path
from typing import Annotated

import typer

from he_infer.commands.json_option import JsonFile
from he_infer.commands.vault.batch import Jobs, Sources
from he_infer.commands.vault.key_options import DEFAULT_KEY, KeyFile, Keyring, PassphraseFile


def restore(
    paths: Sources,
    *,
    to: Annotated[Path, typer.Option("--to", metavar="FOLDER", help="Where the original files go.")],
    key: KeyFile = DEFAULT_KEY,
    passphrase_file: PassphraseFile = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that are in the way.")] = False,
    jobs: Jobs = None,
    json_file: JsonFile = None,
) -> None:
    """Restore sealed objects of either form: the original files, byte for byte, with their names and times.

    A file appears only once all of it has been verified. Interrupt at any time and run the command again.

    Example: `he-infer restore vault/ --to restored/ --key hospital.key`
    """
    from cipher.vault.work import Restoring, make_folder
    from he_infer.commands.vault.batch import conclude, sealed_among, work_on

    objects, others = sealed_among(paths, [to, *Keyring.files_at(key)])
    keyring = Keyring.open(key, passphrase_file)
    make_folder(to)
    work = Restoring(to, keyring.vault_key, overwrite=overwrite, versions=keyring.versions())
    tally = work_on("restore", work, objects, jobs)
    tally.passed_over = others
    conclude(tally, json_file)


def verify(
    paths: Sources,
    *,
    key: KeyFile = DEFAULT_KEY,
    passphrase_file: PassphraseFile = None,
    jobs: Jobs = None,
    json_file: JsonFile = None,
) -> None:
    """Check sealed objects: every byte's tag, what is bound around them, and that none is an older version.

    Nothing is written. Exits with 1 if any object is damaged, replaced, or sealed under another key.

    Example: `he-infer verify vault/ --key hospital.key`
    """
    from cipher.vault.work import Verifying
    from he_infer.commands.vault.batch import conclude, sealed_among, work_on

    objects, others = sealed_among(paths, Keyring.files_at(key))
    keyring = Keyring.open(key, passphrase_file)
    tally = work_on("verify", Verifying(keyring.vault_key, keyring.versions()), objects, jobs)
    tally.passed_over = others
    conclude(tally, json_file)
