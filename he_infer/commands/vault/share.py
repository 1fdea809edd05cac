"""`he-infer recipient-key`, `share`, `unshare`, `recipients`: who opens sealed objects besides the vault's key."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box

from he_infer.commands.json_option import JsonFile
from he_infer.commands.vault.batch import Jobs, Sources
from he_infer.commands.vault.key_options import (
    DEFAULT_KEY,
    KeyFile,
    PassphraseFile,
    RecipientKeyFile,
    open_keyring,
    open_recipient_key,
)
from he_infer.terminal import PlainTable, make_console

if TYPE_CHECKING:
    from cipher.container.unlock import OpeningKey
    from cipher.vault.batch import Work
    from cipher.vault.find import Found
    from cipher.vault.outcome import Outcome
    from cipher.vault.selection import Selection
    from cipher.vault.tally import Tally


def recipient_key(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="The new private key; FILE.pub is the public one.")],
    *,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Make a recipient's key pair: X25519, the private key under a passphrase, the public one as PEM for others.

    Example: `he-infer recipient-key doctor.key`
    """
    from cipher.keys.recipient_key import RecipientKey
    from he_infer.commands.passphrase_option import get_passphrase

    key = RecipientKey.generate()
    public = key.save(path, get_passphrase(passphrase_file, confirm=True))
    typer.echo(f"Made recipient {key.key_id[:8]}: {path} (keep it), {public} (give it to whoever shares with you).")


def share(
    paths: Sources,
    *,
    recipient: Annotated[
        list[Path], typer.Option("--with", metavar="PUB", help="Public key (PEM) of a recipient who may open them.")
    ],
    recovery: Annotated[
        bool, typer.Option("--recovery", help="Mark it as a recovery key, for when the vault's key is lost.")
    ] = False,
    key: KeyFile = DEFAULT_KEY,
    recipient_key: RecipientKeyFile = None,
    passphrase_file: PassphraseFile = None,
    jobs: Jobs = None,
    json_file: JsonFile = None,
) -> None:
    """Let further public keys open sealed objects; 128 bytes an object are written, whatever its size.

    Only whoever can open an object can share it. Objects that a recipient opens already are left alone. Interrupt at
    any time and run the command again.

    Example: `he-infer share vault/ --with doctor.key.pub --key hospital.key`
    """
    from cipher.keys.recipient_key import load_public_key
    from cipher.vault.checking import Sharing
    from he_infer.commands.vault.batch import conclude

    public = tuple(dict.fromkeys(load_public_key(path).public_bytes_raw() for path in recipient))
    selection, opening = _select(paths, key, recipient_key, passphrase_file)
    conclude(_work_on("share", Sharing(opening, public, recovery=recovery), selection, jobs), json_file)


def unshare(
    paths: Sources,
    *,
    recipient: Annotated[
        list[str], typer.Option("--from", metavar="PUB|ID", help="Public key, or key id as 'recipients' shows it.")
    ],
    key: KeyFile = DEFAULT_KEY,
    recipient_key: RecipientKeyFile = None,
    passphrase_file: PassphraseFile = None,
    jobs: Jobs = None,
    json_file: JsonFile = None,
) -> None:
    """Remove public keys from sealed objects. Earlier copies and objects already opened are not affected.

    Example: `he-infer unshare vault/ --from doctor.key.pub --key hospital.key`
    """
    from cipher.vault.checking import Unsharing
    from he_infer.commands.vault.batch import conclude

    ids = tuple(dict.fromkeys(_key_id(name) for name in recipient))
    selection, opening = _select(paths, key, recipient_key, passphrase_file)
    conclude(_work_on("unshare", Unsharing(opening, ids), selection, jobs), json_file)


def recipients(paths: Sources, *, json_file: JsonFile = None) -> None:
    """List who opens sealed objects besides the vault's key. Nothing of it is authenticated; `verify` checks it.

    Example: `he-infer recipients vault/`
    """
    from cipher.errors import CipherError
    from cipher.vault.forms import describe_path
    from cipher.vault.selection import select_sealed
    from he_infer.commands.vault.batch import print_failures
    from he_infer.files import write_json

    selection = select_sealed(paths)
    failures = list(selection.problems)
    table = PlainTable("object", "recipients", "free slots", box=box.SIMPLE)
    figures = []
    for found in selection.objects:
        try:
            said = describe_path(found.path).container
        except CipherError as error:
            failures.append((found, error))
            continue
        names = [one.key_id + (" (recovery)" if one.recovery else "") for one in said.recipients]
        table.add_row(found.path.name, " ".join(names) or "-", str(said.recipient_slots - len(names)))
        listed = [{"key_id": one.key_id, "recovery": one.recovery} for one in said.recipients]
        figures.append({"path": str(found.path), "recipients": listed, "slots": said.recipient_slots})
    if json_file is not None:
        broken = [{"path": str(found.path), "message": str(error)} for found, error in failures]
        write_json(json_file, {"objects": figures, "failures": broken})
    if failures and not figures and len(failures) == 1:
        raise failures[0][1]
    make_console(width=None if make_console().is_terminal else 160).print(table)
    print_failures(failures)
    if failures:
        raise typer.Exit(1)


def _select(
    paths: list[Path], key: Path, recipient_key: Path | None, passphrase_file: Path | None
) -> "tuple[Selection, OpeningKey]":
    from cipher.vault.keyring import Keyring
    from cipher.vault.selection import select_sealed

    opening: OpeningKey
    if recipient_key is not None:
        opening = open_recipient_key(recipient_key, passphrase_file)
    else:
        opening = open_keyring(key, passphrase_file).vault_key
    return select_sealed(paths, leave_out=Keyring.files_at(key)), opening


def _work_on(verb: str, work: "Work[Found, Outcome]", selection: "Selection", jobs: int | None) -> "Tally":
    from cipher.vault.tally import Tally
    from he_infer.commands.vault.batch import work_on

    tally = work_on(verb, work, selection.objects, jobs) if selection.objects else Tally(verb)
    tally.failures += selection.problems
    tally.not_sealed = selection.others
    return tally


def _key_id(name: str) -> str:
    """A key id of 32 hex digits, or that of a public key's file.

    Raises:
        BadKey, StorageProblem: neither.
    """
    from cipher.errors import BadKey
    from cipher.keys.recipient_key import key_id_of, load_public_key

    if len(name) == 32 and not set(name.lower()) - set("0123456789abcdef"):
        return name.lower()
    if name and not set(name.lower()) - set("0123456789abcdef") and not Path(name).exists():
        raise BadKey(f"{name} is no key id: give all 32 digits, as 'he-infer recipients' shows them, or a public key.")
    return key_id_of(load_public_key(name)).hex()
