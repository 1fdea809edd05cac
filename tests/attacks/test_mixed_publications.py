"""Parts, plans and key files of different publications together: every pair that does not fit is refused by name."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from typer.testing import CliRunner

from he_infer import Client
from he_infer.cli import app
from he_infer.client.connection.session import Session
from he_infer.client.key_registration import register_keys
from he_infer.client.keys.key_file import KeyFile
from he_infer.client.model import ClientModel
from he_infer.errors import HeInferError, MissingKey, NotAuthentic, ProtocolMismatch
from he_infer.head.bundle_file import BundleFile
from he_infer.local_server import LocalServer
from he_infer.owner.publish import publish
from models.images.load import load_image
from tests.he_infer.client.imaging import small_bundle, small_images

WORDS = "correct horse battery staple"
OWNER = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))


@dataclass(frozen=True)
class Published:
    """One publication: both of its parts, and a server that serves it."""

    client: Path
    served: Path


@dataclass(frozen=True)
class Market:
    """Publications of one owner, each served, and a key file for each of them."""

    folder: Path
    publications: dict[str, Published]
    servers: dict[str, LocalServer]
    images: list[Path]
    labels: list[str]

    def client(self, server: str, part: str, key: str, **options: Any) -> Client:
        """A client with the part of one publication and the key file of another, at the server of a third."""
        running = self.servers[server]
        return Client(
            running.url,
            model=self.publications[part].client,
            key=self.folder / f"{key}.key",
            passphrase=WORDS,
            token=running.token,
            patience=1.0,
            accept_new_server_key=True,  # each server has its own; here the parts are at issue
            **options,
        )


def publish_as(folder: Path, name: str, whole: Path, key: Ed25519PrivateKey = OWNER, **options: Any) -> Published:
    made = publish(BundleFile.load(whole), key, **options)
    paths = folder / f"{name}.client.hebundle", folder / f"{name}.server.hebundle"
    made.client.save(paths[0])
    made.server.save(paths[1])
    return Published(*paths)


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Market]:
    folder = tmp_path_factory.mktemp("market")
    whole, later = folder / "whole.hebundle", folder / "later.hebundle"
    bundle = small_bundle(whole)
    small_bundle(later, seed=4)
    publications = {
        "first": publish_as(folder, "first", whole, batches=(1, 16)),
        "again": publish_as(folder, "again", whole, batches=(1, 16), questions=5),
        "other plans": publish_as(folder, "other plans", whole, batches=(1, 4)),
        "retrained": publish_as(folder, "retrained", later, batches=(1, 16)),
        "other owner": publish_as(folder, "other owner", whole, Ed25519PrivateKey.generate(), batches=(1, 16)),
    }
    images = small_images(folder / "scans", 5)
    scores = bundle.scores(bundle.features([load_image(path) for path in images]))
    labels = [bundle.classes[index] for index in scores.argmax(axis=1)]
    servers: dict[str, LocalServer] = {}
    try:
        for name in ("first", "other plans", "retrained"):
            options = ["--workers", "1"]
            servers[name] = LocalServer([publications[name].served], folder / f"data {name}", options=options).start()
            model = ClientModel.load(publications[name].client)
            with Session(servers[name].url, servers[name].token) as session:
                plans = model.expect(session.models()).plans
                keys = KeyFile.new(plans, server_key=session.server_key, publisher=model.publisher)
                keys.save(folder / f"{name}.key", WORDS)
                register_keys(session, keys)
        yield Market(folder, publications, servers, images, labels)
    finally:
        for server in servers.values():
            server.stop()


def refuse_to_send(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Session, "classify", lambda *_: pytest.fail("something was sent"))


def test_parts_of_one_publication_belong_together(market: Market) -> None:
    with market.client("first", "first", "first") as client:
        assert [result.label for result in client.classify(market.images)] == market.labels


def test_parts_of_two_publications_of_one_head_and_its_plans_give_its_labels(market: Market) -> None:
    """What they share is all that an answer depends on, so this mixture is harmless and is not refused."""
    with market.client("first", "again", "first") as client:
        assert [result.label for result in client.classify(market.images)] == market.labels


MIXED: dict[tuple[str, str], tuple[type[HeInferError], str]] = {
    ("retrained", "first"): (NotAuthentic, "of another publication"),
    ("first", "retrained"): (NotAuthentic, "of another publication"),
    ("other plans", "first"): (ProtocolMismatch, "other plans"),
    ("first", "other plans"): (ProtocolMismatch, "other plans"),
}


@pytest.mark.parametrize(("server", "part"), MIXED)
def test_parts_of_different_publications_are_refused_before_anything_is_sent(
    market: Market, monkeypatch: pytest.MonkeyPatch, server: str, part: str
) -> None:
    error, text = MIXED[server, part]
    refuse_to_send(monkeypatch)
    for key in (server, part):
        with market.client(server, part, key) as client, pytest.raises(error, match=text):
            client.classify(market.images)


@pytest.mark.parametrize(("part", "key"), [("retrained", "first"), ("first", "retrained"), ("other plans", "first")])
def test_a_key_file_of_another_publication_is_refused_before_anything_is_sent(
    market: Market, monkeypatch: pytest.MonkeyPatch, part: str, key: str
) -> None:
    refuse_to_send(monkeypatch)
    with market.client(part, part, key) as client, pytest.raises(MissingKey, match="made for other plans"):
        client.classify(market.images)


def test_a_part_by_another_publishing_key_is_refused(market: Market, monkeypatch: pytest.MonkeyPatch) -> None:
    """Head and plans are the same, so only the pinned publisher tells that somebody else vouches for the extractor."""
    refuse_to_send(monkeypatch)
    with pytest.raises(NotAuthentic, match="was published by"):
        market.client("first", "other owner", "first")


def run(market: Market, *arguments: object) -> tuple[int, str]:
    server = market.servers["first"]
    token = market.folder / "token"
    if not token.exists():
        token.touch(mode=0o600)
        token.write_text(server.token)
    given = [*map(str, arguments), "--url", server.url, "--token-file", str(token)]
    done = CliRunner().invoke(app, given, env={"HE_INFER_PASSPHRASE": WORDS, "COLUMNS": "300"})
    return done.exit_code, f"{done.output} {done.exception}"


def test_commands_refuse_a_part_by_another_publishing_key(market: Market) -> None:
    part, key = market.publications["other owner"].client, market.folder / "first.key"
    for command in (("keys", "register", key), ("classify", *market.images, "--key", key)):
        code, said = run(market, *command, "--bundle", part)
        assert code == 1
        assert "was published by" in said
    code, said = run(market, "doctor", "--key", key, "--bundle", part)
    assert code == 1
    assert "was published by" in said


def test_publishing_with_another_key_into_the_same_folder_is_said(market: Market, tmp_path: Path) -> None:
    whole, folder = market.folder / "whole.hebundle", tmp_path / "published"
    said = []
    for key in ("one", "one", "other"):
        command = ["publish", str(whole), "--to", str(folder), "--publishing-key", str(tmp_path / key), "--batch", "1"]
        done = CliRunner().invoke(app, command, env={"HE_INFER_PASSPHRASE": WORDS, "COLUMNS": "300"})
        assert done.exit_code == 0, done.output
        said.append("signed by another publishing key" in done.output)
    assert said == [False, False, True]
