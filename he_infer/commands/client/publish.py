"""`he-infer publish`: splits a whole bundle into a client's part and a server's part, both signed."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from he_infer.commands.client.card_option import CardFile, read_card
from he_infer.commands.json_option import JsonFile
from he_infer.commands.number_options import require_finite
from he_infer.commands.passphrase_option import PassphraseFile, get_passphrase

if TYPE_CHECKING:
    from he_infer.ckks.planning.plan import Plan


class PlanEngine(StrEnum):
    """Engine that plans are made for."""

    ANY = "any"
    NATIVE = "native"


def publish(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="The whole bundle, from 'he-infer train'.")],
    *,
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="Folder for both parts; created if missing.")],
    publishing_key: Annotated[
        Path, typer.Option(help="The owner's publishing key, sealed under a passphrase; created if missing.")
    ] = Path("publishing.key"),
    batch: Annotated[
        list[int] | None,
        typer.Option(
            min=1, help="Images in a request; repeat for several plans.", show_default="1, 16, 64, 256 if they fit"
        ),
    ] = None,
    precision: Annotated[
        float, typer.Option(callback=require_finite, help="Largest accepted error of a score.")
    ] = 1e-3,
    questions: Annotated[
        int,
        typer.Option(
            min=2,
            max=64,
            help="Number of canary questions for the client's part. Each reveals as much about the head as one query.",
        ),
    ] = 8,
    engine: Annotated[
        PlanEngine,
        typer.Option(
            help="Engine of all servers that will serve the model. 'native' gives heads with hidden layers plans that "
            "take a fifth less time there, and that SEAL does not compute."
        ),
    ] = PlanEngine.ANY,
    card_file: CardFile = None,
    passphrase_file: PassphraseFile = None,
    json_file: JsonFile = None,
) -> None:
    """Publish a model in two parts: X.client.hebundle for hospitals, X.server.hebundle for the cloud.

    The client's part holds no head, the server's part no extractor. Each plan is tried under encryption before it is
    published. Anybody with the publishing key can publish in the owner's name: keep it off both machines.

    Example: `he-infer publish chest.hebundle --to published`
    """
    from he_infer.ckks.engines.choice import EngineWish, choose_engine
    from he_infer.ckks.engines.native.code_cache import default_folder
    from he_infer.files import write_json
    from he_infer.head.bundle_file import SUFFIX, BundleFile
    from he_infer.owner.publish import publish as publish_parts
    from he_infer.owner.publishing_key import load_publishing_key, make_publishing_key
    from he_infer.publication.parts import fingerprint, read_publisher
    from models.card_file import merge_card

    def note(line: str) -> None:
        typer.echo(f"note: {line}", err=True)

    whole = BundleFile.load(bundle)
    # Before a key is made: a machine without the native engine cannot try its plans.
    native = choose_engine(EngineWish.NATIVE, default_folder(), note) if engine is PlanEngine.NATIVE else None
    if stated := read_card(card_file, whole.classes):
        card = merge_card(whole.description.get("card") or {}, stated)
        whole = BundleFile({**whole.description, "card": card}, whole.tensors)
    if publishing_key.exists():
        key = load_publishing_key(publishing_key, get_passphrase(passphrase_file, confirm=False))
    else:
        key = make_publishing_key(publishing_key, get_passphrase(passphrase_file, confirm=True))
        typer.echo(f"Made a publishing key: {publishing_key}. Keep it and its passphrase.")
    published = publish_parts(
        whole,
        key,
        batches=batch,
        precision=precision,
        questions=questions,
        engine=native,
        note=note,
    )
    to.mkdir(parents=True, exist_ok=True)
    stem = bundle.name.removesuffix(SUFFIX)
    publisher = published.publisher
    if (before := read_publisher(to / f"{stem}.client{SUFFIX}")) not in (None, publisher):
        note(
            f"the parts in {to} were signed by another publishing key, {fingerprint(str(before))}. Clients whose key "
            "files pin that one refuse the new part until they make new key files: tell them beforehand."
        )
    files = {}
    for part in (published.client, published.server):
        files[part.part] = to / f"{stem}.{part.part}{SUFFIX}"
        part.save(files[part.part])
        typer.echo(f"Wrote {files[part.part]} ({files[part.part].stat().st_size / 1e6:.1f} MB).")
    for plan, error in zip(published.plans, published.trial_errors, strict=True):
        typer.echo(
            f"Plan for {plan.batch} image{'s' * (plan.batch > 1)} a request{_name_engine(plan)}: {plan.parameters}; "
            f"scores were off by {error:.1e} at most."
        )
    typer.echo(f"Publisher: {fingerprint(publisher)}. Tell it to the hospitals through another channel than the files.")
    if json_file is not None:
        write_json(
            json_file,
            {
                "client": str(files["client"]),
                "server": str(files["server"]),
                "publisher": publisher,
                "head_digest": published.plans[0].head_digest,
                "plans": [
                    {
                        "batch": plan.batch,
                        "digest": plan.digest,
                        "digits": plan.digits.value,
                        "trial_error": error,
                    }
                    for plan, error in zip(published.plans, published.trial_errors, strict=True)
                ],
            },
        )


def _name_engine(plan: "Plan") -> str:
    return "" if plan.digits.value == "positive" else ", for the native engine alone"
