"""Global options of `he-infer`: its version, and the profile that gives all commands their defaults."""

from typing import Annotated, Any

import typer

_CONNECTION = ("url", "token_file", "ca_file", "client_cert")
_COMMANDS: dict[tuple[str, ...], tuple[str, ...]] = {
    ("classify",): (*_CONNECTION, "bundle_file", "key_file"),
    ("console",): (*_CONNECTION, "bundle_file", "key_file"),
    ("watch",): (*_CONNECTION, "bundle_file", "key_file"),
    ("doctor",): (*_CONNECTION, "bundle_file", "key_file"),
    ("keys", "new"): (*_CONNECTION, "bundle_file", "key_file"),
    ("keys", "register"): (*_CONNECTION, "bundle_file", "key_file"),
    ("keys", "rotate"): (*_CONNECTION, "key_file"),
    ("keys", "prune"): (*_CONNECTION, "key_file"),
    ("keys", "show"): ("key_file",),
    ("keys", "list"): _CONNECTION,
    ("keys", "forget"): _CONNECTION,
}
_MEMBERS = {"bundle_file": "bundle", "key_file": "key"}


def choose(
    context: typer.Context,
    *,
    profile: Annotated[
        str | None,
        typer.Option(help="Take server, model, key and token file from this profile.", envvar="HE_INFER_PROFILE"),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", is_eager=True, callback=None)
    ] = False,
) -> None:
    """Classify medical images in a cloud that never sees them."""
    if version:
        from he_infer import __version__

        typer.echo(f"he-infer {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(2)
    if profile is not None:
        context.default_map = find_defaults(profile)


def find_defaults(name: str) -> dict[str, Any]:
    """Read defaults of the commands' options from a profile, in click's nested form.

    Raises:
        UsageError: there is no such profile.
        OSError: the configuration file cannot be read.
    """
    from he_infer.client.profiles import Profile

    profile = Profile.load(name)
    defaults: dict[str, Any] = {}
    for words, options in _COMMANDS.items():
        table = defaults
        for word in words:
            table = table.setdefault(word, {})
        for option in options:
            value = getattr(profile, _MEMBERS.get(option, option))
            if value is not None:
                table[option] = str(value)
    return defaults
