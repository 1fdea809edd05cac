"""`he-infer keys wrappings` and `he-infer keys recover`: the ways in which a key file opens."""

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from he_infer.commands.client.unlock_option import MODULE_VARIABLE, get_pin, get_unlock
from he_infer.commands.passphrase_option import PassphraseFile, decode_secret, get_passphrase
from he_infer.terminal import PlainTable, make_console

if TYPE_CHECKING:
    from he_infer.client.keys.wrappings.wrapping import Wrapping

app = typer.Typer(help="List, add, remove and replace the ways in which a key file opens.", no_args_is_help=True)

KeyPath = Annotated[Path, typer.Argument(metavar="KEYFILE", help="The secret key's file.")]
NEW_PASSPHRASE = "HE_INFER_NEW_PASSPHRASE"  # noqa: S105 - the name of a variable
NewPassphraseFile = Annotated[
    Path | None, typer.Option(help=f"File with the passphrase to add; else {NEW_PASSPHRASE}, else a prompt.")
]


Label = Annotated[
    str, typer.Option(help="Description, such as the passphrase's owner or the token; at most 64 characters.")
]
Module = Annotated[Path | None, typer.Option(envvar=MODULE_VARIABLE, help="token: its PKCS#11 library.")]
TokenLabel = Annotated[str, typer.Option(help="token: its label.")]
RsaKey = Annotated[str, typer.Option(help="token: label of the RSA key in it.")]
Generate = Annotated[bool, typer.Option(help="token: make the RSA key in the token if it has none.")]
PinFile = Annotated[Path | None, typer.Option(help="token: file with the PIN; else a prompt.")]
Threshold = Annotated[int, typer.Option(help="shares: number of shares that open the file.")]
Count = Annotated[int, typer.Option(help="shares: total number of shares.")]
Kit = Annotated[
    Path | None, typer.Option(help="shares: new folder for the sheets to print, one a share; delete it afterwards.")
]
LONGEST_LABEL = 64


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
    label: Label = "",
    passphrase_file: PassphraseFile = None,
    new_passphrase_file: NewPassphraseFile = None,
    module: Module = None,
    token_label: TokenLabel = "",
    rsa_key: RsaKey = "he-infer",
    generate: Generate = False,
    pin_file: PinFile = None,
    threshold: Threshold = 2,
    count: Count = 3,
    kit: Kit = None,
) -> None:
    """Add a way to open a key file. The file is opened in one of its present ways first.

    Example: `he-infer keys wrappings add hospital.key shares --kit to-print`
    """
    from he_infer.client.keys.key_file import KeyFile

    maker = _Maker(
        kind, key_file, label, new_passphrase_file, module, token_label, rsa_key, generate, pin_file, threshold, count,
        kit,
    )  # fmt: skip
    keys = KeyFile.load(key_file, get_unlock(key_file, passphrase_file))
    with maker.making() as wrap:
        wrapping = wrap(keys.custody.key)
        keys.with_custody(keys.custody.with_wrapping(wrapping)).save(key_file, update=True)
    typer.echo(f"{key_file} opens with {kind} {wrapping.id} from now on, too.")
    maker.explain()


@app.command()
def replace(
    key_file: KeyPath,
    kind: Annotated[Kind, typer.Argument(help="Kind of wrapping that opens the file from then on.")],
    *,
    label: Label = "",
    passphrase_file: PassphraseFile = None,
    new_passphrase_file: NewPassphraseFile = None,
    module: Module = None,
    token_label: TokenLabel = "",
    rsa_key: RsaKey = "he-infer",
    generate: Generate = False,
    pin_file: PinFile = None,
    threshold: Threshold = 2,
    count: Count = 3,
    kit: Kit = None,
) -> None:
    """Replace the key-encryption key: the file is sealed anew, and only one new wrapping opens it.

    All present wrappings are removed, so that nothing that opened an older copy opens the new file. The file is
    replaced in one step: if the command is interrupted, the file opens as before. Delete older copies of the file. If
    somebody may have opened one, also run `he-infer keys rotate`.

    Example: `he-infer keys wrappings replace hospital.key passphrase`
    """
    from he_infer.client.keys.key_file import KeyFile

    maker = _Maker(
        kind, key_file, label, new_passphrase_file, module, token_label, rsa_key, generate, pin_file, threshold, count,
        kit,
    )  # fmt: skip
    keys = KeyFile.load(key_file, get_unlock(key_file, passphrase_file))
    with maker.making() as wrap:
        fresh = keys.with_new_key(wrap)
        fresh.save(key_file, update=True)
    for removed in keys.custody.wrappings:
        _forget(removed)
    (wrapping,) = fresh.custody.wrappings
    typer.echo(f"{key_file} is sealed under a new key; only {kind} {wrapping.id} opens it. Delete older copies.")
    maker.explain()


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
    if removed is not None:
        _forget(removed)
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

    unlock = SharesUnlock([read_share(decode_secret(path.read_bytes(), path)) for path in from_shares])
    keys = KeyFile.load(key_file, unlock)
    words = get_passphrase(
        new_passphrase_file,
        confirm=True,
        variable=NEW_PASSPHRASE,
        option="--new-passphrase-file",
        name="new passphrase",
    )
    custody = keys.custody.with_wrapping(wrap_with_passphrase(keys.custody.key, words, "recovered"))
    for wrapping in keys.custody.wrappings:
        if wrapping.kind == "passphrase":
            custody = custody.without_wrapping(wrapping.id)
    keys.with_custody(custody).save(key_file, update=True)
    typer.echo(f"{key_file} opens with the new passphrase.")


@dataclass
class _Maker:
    """Makes one wrapping from the options of a command."""

    kind: Kind
    key_file: Path
    label: str
    new_passphrase_file: Path | None
    module: Path | None
    token_label: str
    rsa_key: str
    generate: bool
    pin_file: Path | None
    threshold: int
    count: int
    kit: Path | None
    _kit_made: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        from he_infer.errors import UsageError

        if len(self.label) > LONGEST_LABEL:
            raise UsageError(f"The label is longer than {LONGEST_LABEL} characters; choose a shorter one.")
        if self.kind is Kind.SHARES and self.kit is None:
            raise UsageError("Shares are written to sheets once, and kept nowhere: say where with --kit FOLDER.")
        if self.kind is Kind.TOKEN and (self.module is None or not self.token_label):
            raise UsageError("A token needs --module and --token-label: its PKCS#11 library and its label.")

    @contextmanager
    def making(self) -> Iterator[Callable[[bytes], "Wrapping"]]:
        """Give the function that wraps a key. If the block fails, what the function left behind is removed again."""
        made: list[Wrapping] = []

        def wrap(key: bytes) -> "Wrapping":
            made.append(self._wrap(key))
            return made[-1]

        try:
            yield wrap
        except BaseException:
            if not self._may_be_in_file(made):
                for wrapping in made:
                    _forget(wrapping)
                if self._kit_made and self.kit is not None:
                    shutil.rmtree(self.kit, ignore_errors=True)
            raise

    def explain(self) -> None:
        """Say what the user has to do next."""
        if self.kind is Kind.SHARES:
            typer.echo(f"Print the sheets in {self.kit}, hand each to another person, then delete the folder.")

    def _may_be_in_file(self, made: list["Wrapping"]) -> bool:
        """Whether the key file may have one of these wrappings: a write can fail after the file was replaced."""
        from he_infer.client.keys.key_file import read_wrappings
        from he_infer.errors import HeInferError

        try:
            present = {wrapping.id for wrapping in read_wrappings(self.key_file)}
        except (HeInferError, OSError):
            return True
        return any(wrapping.id in present for wrapping in made)

    def _wrap(self, key: bytes) -> "Wrapping":
        if self.kind is Kind.PASSPHRASE:
            from he_infer.client.keys.wrappings.passphrase import wrap_with_passphrase

            return wrap_with_passphrase(key, _new_passphrase(self.new_passphrase_file), self.label)
        if self.kind is Kind.KEYRING:
            from he_infer.client.keys.wrappings.system_keyring import wrap_with_keyring

            return wrap_with_keyring(key, self.label)
        if self.kind is Kind.TOKEN and self.module is not None:
            from he_infer.client.keys.wrappings.token import Token, wrap_with_token

            token = Token(self.module, self.token_label, get_pin(self.pin_file), self.rsa_key)
            return wrap_with_token(key, token, self.label, generate=self.generate)
        return self._wrap_with_shares(key)

    def _wrap_with_shares(self, key: bytes) -> "Wrapping":
        from he_infer.client.keys.wrappings.shares import print_kit, wrap_with_shares
        from he_infer.errors import UsageError
        from he_infer.files import PRIVATE, write_bytes

        if self.kit is None:
            raise UsageError("Shares need --kit FOLDER: a new folder for the sheets to print.")
        wrapping, mnemonics = wrap_with_shares(key, self.threshold, self.count, self.label)
        self.kit.mkdir(mode=0o700)
        self._kit_made = True
        for number, text in enumerate(print_kit(self.key_file.name, mnemonics, self.threshold), 1):
            write_bytes(self.kit / f"share-{number}-of-{self.count}.txt", text.encode(), mode=PRIVATE, replace=False)
        return wrapping


def _forget(wrapping: "Wrapping") -> None:
    """Delete what a removed wrapping left outside the key file."""
    if wrapping.kind == "keyring":
        from he_infer.client.keys.wrappings.system_keyring import forget

        forget(wrapping)


def _new_passphrase(file: Path | None) -> str:
    return get_passphrase(
        file, confirm=True, variable=NEW_PASSPHRASE, option="--new-passphrase-file", name="new passphrase"
    )
