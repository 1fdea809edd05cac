"""`he-infer keys wrappings` and `he-infer keys recover`: the ways in which a key file opens."""

import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from he_infer.commands.client.unlock_option import MODULE_VARIABLE, get_pin, get_unlock
from he_infer.commands.passphrase_option import PassphraseFile, get_passphrase
from he_infer.terminal import PlainTable, make_console

app = typer.Typer(help="List, add and remove the ways in which a key file opens.", no_args_is_help=True)

KeyPath = Annotated[Path, typer.Argument(metavar="KEYFILE", help="The secret key's file.")]
NEW_PASSPHRASE = "HE_INFER_NEW_PASSPHRASE"  # noqa: S105 - the name of a variable
NewPassphraseFile = Annotated[
    Path | None, typer.Option(help=f"File with the passphrase to add; else {NEW_PASSPHRASE}, else a prompt.")
]


class Kind(StrEnum):
    """Kinds of wrappings that can be added."""

    PASSPHRASE = "passphrase"  # noqa: S105 - a word, no secret
    KEYRING = "keyring"
    TOKEN = "token"  # noqa: S105 - a word, no secret
    SHARES = "shares"


@app.command("list")
def list_(key_file: KeyPath) -> None:
    """List the ways in which a key file opens; the file stays closed.

    Example: `he-infer keys wrappings list hospital.key`
    """
    from he_infer.client.keys.key_file import read_wrappings

    table = PlainTable("id", "opens with", "label", "made")
    for wrapping in read_wrappings(key_file):
        about = {
            "token": lambda data: f"token '{data.get('token')}', key '{data.get('key')}'",
            "shares": lambda data: f"{data.get('threshold')} of {data.get('count')} shares",
        }.get(wrapping.kind, lambda data: "")(wrapping.data)
        made = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(wrapping.created))
        table.add_row(wrapping.id, about or wrapping.kind, wrapping.label, made)
    make_console(width=120).print(table)


@app.command()
def add(
    key_file: KeyPath,
    kind: Annotated[Kind, typer.Argument(help="Kind of wrapping to add: a further way to open the file.")],
    *,
    label: Annotated[
        str, typer.Option(help="Description, such as the passphrase's owner or the token; at most 64 characters.")
    ] = "",
    passphrase_file: PassphraseFile = None,
    new_passphrase_file: NewPassphraseFile = None,
    module: Annotated[Path | None, typer.Option(envvar=MODULE_VARIABLE, help="token: its PKCS#11 library.")] = None,
    token_label: Annotated[str, typer.Option(help="token: its label.")] = "",
    rsa_key: Annotated[str, typer.Option(help="token: label of the RSA key in it.")] = "he-infer",
    generate: Annotated[bool, typer.Option(help="token: make the RSA key in the token if it has none.")] = False,
    pin_file: Annotated[Path | None, typer.Option(help="token: file with the PIN; else a prompt.")] = None,
    threshold: Annotated[int, typer.Option(help="shares: number of shares that open the file.")] = 2,
    count: Annotated[int, typer.Option(help="shares: total number of shares.")] = 3,
    kit: Annotated[
        Path | None, typer.Option(help="shares: new folder for the sheets to print, one a share; delete it afterwards.")
    ] = None,
) -> None:
    """Add a way to open a key file. The file is opened in one of its present ways first.

    Example: `he-infer keys wrappings add hospital.key shares --kit to-print`
    """
    from he_infer.client.keys.key_file import KeyFile
    from he_infer.errors import UsageError

    if len(label) > 64:
        raise UsageError("The label is longer than 64 characters; choose a shorter one.")
    if kind is Kind.SHARES and kit is None:
        raise UsageError("Shares are written to sheets once, and kept nowhere: say where with --kit FOLDER.")
    if kind is Kind.TOKEN and (module is None or not token_label):
        raise UsageError("A token needs --module and --token-label: its PKCS#11 library and its label.")
    keys = KeyFile.load(key_file, get_unlock(key_file, passphrase_file))
    key = keys.custody.key
    if kind is Kind.PASSPHRASE:
        from he_infer.client.keys.wrappings.passphrase import wrap_with_passphrase

        words = _new_passphrase(new_passphrase_file)
        wrapping = wrap_with_passphrase(key, words, label)
    elif kind is Kind.KEYRING:
        from he_infer.client.keys.wrappings.system_keyring import wrap_with_keyring

        wrapping = wrap_with_keyring(key, label)
    elif kind is Kind.TOKEN:
        from he_infer.client.keys.wrappings.token import Token, wrap_with_token

        if module is None:
            raise UsageError("A token needs --module: the path of its PKCS#11 library.")
        wrapping = wrap_with_token(
            key, Token(module, token_label, get_pin(pin_file), rsa_key), label, generate=generate
        )
    else:
        from he_infer.client.keys.wrappings.shares import print_kit, wrap_with_shares
        from he_infer.files import PRIVATE, write_bytes

        if kit is None:
            raise UsageError("Shares need --kit FOLDER: a new folder for the sheets to print.")
        wrapping, mnemonics = wrap_with_shares(key, threshold, count, label)
        kit.mkdir(mode=0o700)
        for number, text in enumerate(print_kit(key_file.name, mnemonics, threshold), 1):
            write_bytes(kit / f"share-{number}-of-{count}.txt", text.encode(), mode=PRIVATE, replace=False)
    keys.with_custody(keys.custody.with_wrapping(wrapping)).save(key_file, update=True)
    typer.echo(f"{key_file} opens with {kind} {wrapping.id} from now on, too.")
    if kind is Kind.SHARES:
        typer.echo(f"Print the sheets in {kit}, hand each to another person, then delete the folder.")


@app.command()
def remove(
    key_file: KeyPath,
    identifier: Annotated[str, typer.Argument(metavar="ID", help="From 'he-infer keys wrappings list'.")],
    *,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Remove a way to open a key file. Older copies of the file can still be opened that way; delete them.

    Example: `he-infer keys wrappings remove hospital.key 1f2e3d4c`
    """
    from he_infer.client.keys.key_file import KeyFile

    keys = KeyFile.load(key_file, get_unlock(key_file, passphrase_file))
    removed = next((each for each in keys.custody.wrappings if each.id == identifier), None)
    keys.with_custody(keys.custody.without_wrapping(identifier)).save(key_file, update=True)
    if removed is not None and removed.kind == "keyring":
        from he_infer.client.keys.wrappings.system_keyring import forget

        forget(removed)
    typer.echo(f"{key_file} no longer opens with {identifier}. Older copies of the file do: delete them.")


def recover(
    key_file: KeyPath,
    *,
    from_shares: Annotated[
        list[Path],
        typer.Option("--from-shares", metavar="FILE", help="File with a share's words; may be repeated."),
    ],
    new_passphrase_file: NewPassphraseFile = None,
) -> None:
    """Open a key file with shares, and give it a new passphrase. All old passphrases are removed.

    Example: `he-infer keys recover hospital.key --from-shares share-1.txt --from-shares share-3.txt`
    """
    from he_infer.client.keys.key_file import KeyFile
    from he_infer.client.keys.wrappings.passphrase import wrap_with_passphrase
    from he_infer.client.keys.wrappings.shares import SharesUnlock, read_share

    unlock = SharesUnlock([read_share(path.read_text(encoding="utf-8", errors="replace")) for path in from_shares])
    keys = KeyFile.load(key_file, unlock)
    words = get_passphrase(
        new_passphrase_file,
        confirm=True,
        variable=NEW_PASSPHRASE,
        option="--new-passphrase-file",
        prompt="New passphrase",
    )
    custody = keys.custody.with_wrapping(wrap_with_passphrase(keys.custody.key, words, "recovered"))
    for wrapping in keys.custody.wrappings:
        if wrapping.kind == "passphrase":
            custody = custody.without_wrapping(wrapping.id)
    keys.with_custody(custody).save(key_file, update=True)
    typer.echo(f"{key_file} opens with the new passphrase.")


def _new_passphrase(file: Path | None) -> str:
    return get_passphrase(
        file, confirm=True, variable=NEW_PASSPHRASE, option="--new-passphrase-file", prompt="New passphrase"
    )
