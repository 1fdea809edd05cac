"""`he-experiments extraction`: number of queries that steal a head, by policy and query limit.

Every query is a real one: a server process of its own, a client's session, encrypted features, decrypted scores. The
attacker is a client with a token, an account of its own and nothing else.
"""

import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from numpy.typing import NDArray

from experiments.records.finish import FigureFile, RecordFile
from he_infer.commands.json_option import JsonFile
from he_infer.commands.number_options import MOST_SEED

if TYPE_CHECKING:
    from rich.console import Console

    from experiments.leaks.extraction_attack import AffineHead, ExtractionRow
    from he_infer.client.connection.session import Session
    from he_infer.local_server import LocalServer
    from models.bundle import Bundle
    from models.datasets import Dataset

Step = Callable[[int], None]


def extraction(
    *,
    data: Annotated[
        str, typer.Option(help="The set that the attacked heads are trained on; see 'he-experiments accuracy'.")
    ] = "pneumoniamnist",
    width: Annotated[int, typer.Option(min=16, max=1024, help="Features of the linear head.")] = 128,
    small: Annotated[
        int, typer.Option(min=16, max=48, help="Features of the x² head: (d+1)(d+2)/2 queries steal it.")
    ] = 16,
    limit: Annotated[int, typer.Option(min=2, help="Daily query limit of the attacker that has one.")] = 48,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the training images for each head.")] = 3,
    seed: Annotated[
        int, typer.Option(min=0, max=MOST_SEED, help="Seed of training and queries; keys are always fresh.")
    ] = 0,
    figure: FigureFile = None,
    json_file: JsonFile = None,
    record: RecordFile = None,
) -> None:
    """Steal heads by chosen queries through the real encrypted path, with and without a query limit.

    Example: `he-experiments extraction --data pneumoniamnist --figure extraction.png --json extraction.json`
    """
    from experiments.leaks.extraction_figure import draw_extraction
    from experiments.records.finish import format_command, refuse_missing_folders, write_outcome
    from he_infer.terminal import make_console
    from models import datasets

    refuse_missing_folders(figure=figure, json=json_file, record=record)
    console = make_console()
    dataset = datasets.load(data)
    parameters = {"width": width, "small": small, "limit": limit, "epochs": epochs}
    rows = run_attacks(dataset, console, width=width, small=small, limit=limit, epochs=epochs, seed=seed)
    _show(console, dataset.name, [row for row in rows if _last(row, rows)], limit)
    write_outcome(
        console,
        "extraction",
        command=format_command(
            "extraction", data=data, width=width, small=small, limit=limit, epochs=epochs, seed=seed, figure=figure
        ),
        seed=seed,
        parameters={"dataset": dataset.name, **parameters},
        figures={"rows": [asdict(row) for row in rows]},
        drawn=None if figure is None else draw_extraction(rows, limit),
        figure=figure,
        json=json_file,
        record=record,
    )


def run_attacks(
    dataset: "Dataset", console: "Console", *, width: int, small: int, limit: int, epochs: int, seed: int
) -> "list[ExtractionRow]":
    """Run all attacks; each gives rows for growing numbers of queries."""
    from he_infer.local_server import LocalServer
    from he_infer.terminal import show_progress

    with TemporaryDirectory(prefix="he-infer-extraction-") as name:
        folder = Path(name)
        linear, square = (
            _trained(dataset, kind, size, epochs, seed, console) for kind, size in (("linear", width), ("mlp", small))
        )
        bundles = {
            ("linear", "open"): replace(linear, policy="open", name="linear-open"),
            ("linear", "hidden"): replace(linear, policy="hidden", name="linear-hidden"),
            ("x²", "hidden"): replace(square, policy="hidden", name="square-hidden"),
        }
        paths: list[Path] = []
        for (kind, policy), bundle in bundles.items():
            paths.append(folder / f"{len(paths)}-{policy}-{len(kind)}.hebundle")
            bundle.save(paths[-1])
        rows: list[ExtractionRow] = []
        with LocalServer(paths, folder / "server", options=["--workers", "1"]) as server:
            attacker = _token(server, "attacker", None)
            restrained = _token(server, "restrained", limit)
            for (kind, policy), bundle in bundles.items():
                random = np.random.default_rng(seed)
                queries = _queries(bundle, kind, random)
                with show_progress(f"{kind} head, {policy}", len(queries), console=console) as step:
                    answers, limited = _ask(server, attacker, bundle, queries, step)
                rows += _rows(bundle, dataset, kind, policy, queries, answers, limited)
                if kind == "linear":
                    rows += _from_pairs(server, attacker, bundle, dataset, policy)
                    rows += _from_crafted_key(server, attacker, bundle, dataset, policy)
            queries = _queries(linear, "linear", np.random.default_rng(seed))
            with show_progress("linear head, query limit", len(queries), console=console) as step:
                answers, limited = _ask(server, restrained, bundles["linear", "hidden"], queries, step)
            rows += _rows(linear, dataset, "linear", "hidden", queries, answers, limited)
    return rows


def _trained(dataset: "Dataset", kind: str, size: int, epochs: int, seed: int, console: "Console") -> "Bundle":
    from he_infer.terminal import show_progress
    from models.training.train import Recipe, train

    with show_progress(f"Training a {kind} head of {size} features", epochs, console=console) as step:
        return train(
            dataset,
            head=kind,
            width=size,
            hidden=8,
            seed=seed,
            recipe=Recipe(epochs=epochs),
            progress=lambda epoch: step(epoch.number),
        )


def _token(server: "LocalServer", name: str, limit: int | None) -> str:
    """A token of a new client, made as the operator makes it."""
    with _file() as path:
        command = [sys.executable, "-m", "he_infer", "tokens", "add", name, "--scope", "classify"]
        command += ["--data-dir", str(server.data_dir), "--token-file", str(path)]
        command += [] if limit is None else ["--daily-queries", str(limit)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)  # noqa: S603 - our own interpreter
        return path.read_text(encoding="utf-8").strip()


@contextmanager
def _file() -> Iterator[Path]:
    with TemporaryDirectory(prefix="he-infer-token-") as name:
        yield Path(name) / "token"


def _queries(bundle: "Bundle", kind: str, random: np.random.Generator) -> NDArray[np.float64]:
    from experiments.leaks.extraction_attack import count_unknowns, make_affine_queries, make_quadratic_queries

    width = bundle.head.width
    if kind == "linear":
        return make_affine_queries(width, bundle.input_bound, random)
    # A few more than unknowns: points at random are seldom in the worst position, but noise is always there.
    return make_quadratic_queries(width, bundle.input_bound, round(1.2 * count_unknowns(width, 2)), random)


class _Attacker:
    """A client with a token and a fresh key of its own."""

    def __init__(self, session: "Session", bundle: "Bundle") -> None:
        from he_infer.client.keys.secret_key import SecretKey
        from he_infer.wire.key_set import new_key_set

        digest = bundle.head.digest
        self.session = session
        self.model = next(m for m in session.models() if m.head_digest == digest and m.policy == bundle.policy)
        self.plan = self.model.plan_for(1)
        self.secret = SecretKey.generate(self.plan.parameters)
        self.key_set = new_key_set()
        parts = self.secret.evaluation_keys(self.plan)
        if parts:
            session.register(self.plan, self.key_set, parts)

    def register(self, parts: dict[str, bytes]) -> None:
        """Register other keys, as a new key set."""
        from he_infer.wire.key_set import new_key_set

        self.key_set = new_key_set()
        self.session.register(self.plan, self.key_set, parts)

    def ask(self, query: NDArray[np.float64]) -> tuple[list[bytes], list[bytes]]:
        """The ciphertexts of one feature vector (d,) and those of its answer."""
        from he_infer.ckks.packing import pack

        sent = self.secret.encrypt(pack(self.plan, query[None, :]), self.plan.input_scale)
        return sent, list(self.session.classify(self.model, self.plan, self.key_set, sent).parts)

    def scores(self, answer: list[bytes]) -> NDArray[np.float64]:
        """(1, classes)."""
        from he_infer.ckks.packing import unpack

        return unpack(self.plan, self.secret.open_answer(self.plan, answer), 1)


def _ask(
    server: "LocalServer", token: str, bundle: "Bundle", queries: NDArray[np.float64], step: Step
) -> tuple[NDArray[np.float64], bool]:
    """Scores (n, classes) of as many queries as the server answers, and whether its query limit ended it."""
    from he_infer.client.connection.session import Session
    from he_infer.errors import RequestRefused
    from he_infer.wire.refusals import Code

    opened: list[NDArray[np.float64]] = []
    with Session(server.url, token) as session:
        attacker = _Attacker(session, bundle)
        for query in queries:
            try:
                _, answer = attacker.ask(query)
            except RequestRefused as refusal:
                if refusal.code != Code.QUERY_LIMIT:
                    raise
                return np.concatenate(opened), True
            opened.append(attacker.scores(answer))
            step(len(opened))
    return np.concatenate(opened), False


def _from_pairs(
    server: "LocalServer", token: str, bundle: "Bundle", dataset: "Dataset", policy: str
) -> "list[ExtractionRow]":
    """Two features a query, at two heights; the scores are what an honest client would get."""
    from experiments.leaks import extraction_answer
    from he_infer.client.connection.session import Session

    weight = bundle.head.linear[0].weight
    with Session(server.url, token) as session:
        attacker = _Attacker(session, bundle)
        high, low = extraction_answer.choose_heights(attacker.plan, float(np.abs(weight).max()))
        queries = extraction_answer.list_pairs(bundle.head.width, high, low)
        answers = np.concatenate([attacker.scores(attacker.ask(query)[1]) for query in queries])
        stolen = extraction_answer.split_pairs(attacker.plan, answers, high, low)
    return [_judge("heights", bundle, dataset, policy, stolen, len(queries))]


def _from_crafted_key(
    server: "LocalServer", token: str, bundle: "Bundle", dataset: "Dataset", policy: str
) -> "list[ExtractionRow]":
    """Attack on one answer's second polynomial under a crafted public part; no rows for other layouts or no answer."""
    from experiments.leaks import extraction_answer, extraction_attack
    from he_infer.client.connection.session import Session

    with Session(server.url, token) as session:
        attacker = _Attacker(session, bundle)
        tile = extraction_answer.find_tile(attacker.plan)
        if tile is None or not attacker.plan.refreshes:
            return []
        attacker.register({"public": extraction_answer.craft_public_part(attacker.plan, secrets.token_bytes(64))})
        one = np.zeros(bundle.head.width)
        one[0] = 0.99 * bundle.input_bound
        request, answer = attacker.ask(one)
        weight = extraction_answer.divide_second_polynomial(attacker.plan, tile, request[0], answer[0])
    stolen = extraction_attack.AffineHead(weight, np.zeros(len(weight)))
    return [_judge("crafted key", bundle, dataset, policy, stolen, 1)]


def _judge(
    name: str, bundle: "Bundle", dataset: "Dataset", policy: str, stolen: "AffineHead", queries: int
) -> "ExtractionRow":
    from experiments.leaks import extraction_attack as attack

    features = bundle.features(dataset.test.images).astype(np.float64)
    true = bundle.scores(features)
    return attack.ExtractionRow(
        attack=name,
        head="linear",
        policy=policy,
        width=bundle.head.width,
        unknowns=attack.count_unknowns(bundle.head.width, 1),
        queries=queries,
        limited=False,
        weight_error=attack.compute_relative_error(stolen.weight, bundle.head.linear[0].weight),
        score_error=attack.compute_relative_error(stolen.evaluate(features), true),
        label_agreement=attack.compute_label_agreement(stolen.evaluate(features), true),
    )


def _rows(
    bundle: "Bundle",
    dataset: "Dataset",
    kind: str,
    policy: str,
    queries: NDArray[np.float64],
    answers: NDArray[np.float64],
    limited: bool,
) -> "list[ExtractionRow]":
    from experiments.leaks import extraction_attack as attack

    features = bundle.features(dataset.test.images).astype(np.float64)
    true = bundle.scores(features)
    needed = attack.count_unknowns(bundle.head.width, 1 if kind == "linear" else 2)
    counts = sorted({*np.linspace(1, min(needed, len(answers)), 16, dtype=int).tolist(), len(answers)})
    rows = []
    for count in counts:
        weight_error = None
        found: attack.AffineHead | attack.QuadraticHead
        if kind == "linear":
            found = attack.recover_affine(queries[:count], answers[:count])
            weight_error = attack.compute_relative_error(found.weight, bundle.head.linear[0].weight)
        else:
            found = attack.recover_quadratic(queries[:count], answers[:count], bundle.input_bound)
        scores = found.evaluate(features)
        rows.append(
            attack.ExtractionRow(
                attack="scores",
                head=kind,
                policy=policy,
                width=bundle.head.width,
                unknowns=needed,
                queries=count,
                limited=limited,
                weight_error=weight_error,
                score_error=attack.compute_relative_error(scores, true),
                label_agreement=attack.compute_label_agreement(scores, true),
            )
        )
    return rows


def _last(row: "ExtractionRow", rows: "list[ExtractionRow]") -> bool:
    """Tell whether no row of the same attack had more queries."""

    def attack(one: "ExtractionRow") -> tuple[object, ...]:
        return one.attack, one.head, one.policy, one.limited

    return row.queries == max(other.queries for other in rows if attack(other) == attack(row))


def _show(console: "Console", name: str, rows: "list[ExtractionRow]", limit: int) -> None:
    from experiments.present.screen_tables import figures_table

    title = f"Heads trained on {name}, stolen by queries"
    table = figures_table(title, ("head", "policy", "reads"), ("queries", "weights", "scores", "label"))
    for row in rows:
        table.add_row(
            f"{row.head}, d={row.width}",
            f"{row.policy}, {limit}/day" if row.limited else row.policy,
            row.attack,
            str(row.queries),
            "" if row.weight_error is None else f"{row.weight_error:.0e}",
            f"{row.score_error:.0e}",
            f"{row.label_agreement:.1%}",
        )
    console.print(table)
    console.print(
        "weights, scores: relative error of the stolen head's. label: share of the test images that it gives the same.",
        highlight=False,
    )
