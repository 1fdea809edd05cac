"""`he-experiments speed`: cost of encrypted heads, beside TenSEAL's own path and the sum of their primitives."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import typer

from experiments.cost.work import count_work
from he_infer.commands.json_option import JsonFile
from he_infer.errors import UsageError

if TYPE_CHECKING:
    from he_infer.ckks.engines.choice import EngineChoice
    from he_infer.ckks.evaluate import EvaluationKeys, Evaluator
    from he_infer.ckks.planning.order import Digits
    from he_infer.ckks.planning.plan import Plan
    from he_infer.client.keys.secret_key import SecretKey
    from he_infer.head.layers import Head

_SINGLE = 1
_HEADLINES = ("512->10", "512->64->x^2->10")


@dataclass(frozen=True)
class Job:
    """A head, a batch and a policy."""

    name: str
    widths: tuple[int, ...]
    policy: str
    batch: int = _SINGLE
    precision: float = 1e-3


@dataclass(frozen=True)
class Row:
    """Figures of a job; times are medians of processor time for one request."""

    job: str
    engine: str
    plan: str
    images: int
    key_switches: int
    transforms: int
    """Number-theoretic transforms of one prime that the evaluation itself takes, see `work`."""
    key_bytes_read: int
    """Bytes of evaluation keys that its key switches read."""
    multiplications: int
    """Multiplications and multiply-adds of the plan on the native engine, counted."""
    moved_bytes: int
    """Keys, encoded weights, request and answer."""
    fma_bound_ms: float | None
    """Time of the multiplications at this core's measured peak; None where numba is absent."""
    memory_bound_ms: float | None
    """Time of the bytes at the measured bandwidth of memory."""
    server_ms: float
    server_ms_low: float
    """First quartile."""
    server_ms_high: float
    """Third quartile."""
    predicted_ms: float
    tenseal_mm_ms: float | None
    tenseal_max_abs_error: float | None
    ratio: float | None
    """TenSEAL's time for as many images over the server's."""
    limit_ms: float
    over_limit: float
    bytes_up: int
    predicted_bytes_up: int
    bytes_down: int
    predicted_bytes_down: int
    evaluation_key_bytes: int
    predicted_key_bytes: int
    weight_bytes: int
    """Memory that the engine allocated for the encoded weights."""
    predicted_weight_bytes: int
    client_encrypt_ms: float
    client_decrypt_ms: float
    max_abs_error: float
    predicted_error: float
    score_range: float


JOBS = (
    Job("512->10", (512, 10), "open"),
    Job("512->10", (512, 10), "hidden"),
    Job("512->2", (512, 2), "hidden"),
    Job("512->128", (512, 128), "hidden"),
    Job("512->64->x^2->10", (512, 64, 10), "hidden"),
    Job("512->64->x^2->10", (512, 64, 10), "open"),
    Job("512->64->x^2->10, scores to 1e-2", (512, 64, 10), "hidden", precision=1e-2),
    Job("512->10, 64 images", (512, 10), "hidden", 64),
    Job("512->64->x^2->10, 64 images", (512, 64, 10), "hidden", 64),
    Job("512->10, 4096 images", (512, 10), "open", 4096),
)


def speed(
    *,
    repeats: Annotated[int, typer.Option(min=3, help="Requests a job; medians are of these.")] = 15,
    only: Annotated[
        list[str] | None,
        typer.Option("--job", help="Jobs of this name alone, as the table writes it; repeat for more."),
    ] = None,
    peer: Annotated[
        bool, typer.Option("--peer/--no-peer", help="Time TenSEAL's path as well, the longest part.")
    ] = True,
    json_file: JsonFile = None,
) -> None:
    """Time encrypted heads in one thread, on each engine, beside TenSEAL's vectors and the sum of their own primitives.

    Times are processor time, so that other work on the machine disturbs them little. The last line runs batches in two
    processes at once, by the clock on the wall.

    Example: `he-experiments speed --json speed.json`
    """
    from he_infer.files import write_json
    from he_infer.terminal import make_console

    console = make_console()
    peers: dict[tuple[int, ...], tuple[float, float]] = {}
    rows = []
    for job in JOBS:
        if only and job.name not in only:
            continue
        with console.status(f"{job.name}, {job.policy}"):
            if peer and job.widths not in peers:
                from experiments.cost.speed_peer import milliseconds

                peers[job.widths] = milliseconds(make_head(job.widths), make_features(3, job.widths[0]), 3)
            found = measure(job, max(3, repeats // 5) if job.batch > _SINGLE else repeats, peers.get(job.widths))
        rows += found
        for row in found:
            _show(console, row)
    if not rows:
        raise UsageError(f"There is no such job; there are {', '.join(sorted({job.name for job in JOBS}))}.")
    images_a_second: dict[str, float] | None = None
    if not only or JOBS[-1].name in only:
        images_a_second = {}
        for engine, choice, _ in list_variants(make_head(JOBS[-1].widths)):
            with console.status(f"two processes, {engine}"):
                images_a_second[engine] = two_processes(JOBS[-1], choice)
            console.print(
                f"{JOBS[-1].name}, two processes, {engine}: {images_a_second[engine]:.0f} images a second",
                highlight=False,
            )
    for engine in dict.fromkeys(row.engine for row in rows):
        single = {row.job: row for row in reversed(rows) if row.images == _SINGLE and row.engine == engine}
        times = [f"{name} {single[name].server_ms:.2f} ms" for name in _HEADLINES if name in single]
        if times:
            console.print(f"one image, {engine}: {', '.join(times)} of server time", highlight=False)
    if json_file is not None:
        write_json(json_file, {"rows": [asdict(row) for row in rows], "two_process_images_per_s": images_a_second})


def make_head(widths: tuple[int, ...]) -> "Head":
    """A random head with x^2 between its layers, scaled so that values stay near one."""
    import numpy as np

    from he_infer.head.layers import Head, Linear, Polynomial

    random = np.random.default_rng(0)
    layers: list[Any] = []
    for index in range(len(widths) - 1):
        if index:
            layers.append(Polynomial((0.0, 0.0, 1.0)))
        weight = random.normal(size=(widths[index + 1], widths[index])) / np.sqrt(widths[index])
        layers.append(Linear(weight, random.normal(size=widths[index + 1]) / 10))
    return Head(tuple(layers))


@dataclass
class _Side:
    """An engine with a plan, keys and its measurements."""

    engine: str
    plan: "Plan"
    choice: "EngineChoice"
    secret: "SecretKey"
    evaluator: "Evaluator"
    parts: Mapping[str, bytes]
    keys: "EvaluationKeys | None"
    before: Mapping[tuple[str, int], float]
    server: list[float] = field(default_factory=list)
    encrypt: list[float] = field(default_factory=list)
    decrypt: list[float] = field(default_factory=list)
    errors: list[float] = field(default_factory=list)
    bytes_up: int = 0
    bytes_down: int = 0


def measure(job: Job, repeats: int, peer: tuple[float, float] | None) -> list[Row]:
    """Run a job on each engine in turns, with both sides in this process and bytes between them."""
    import time

    import numpy as np

    from he_infer.ckks.packing import pack, unpack

    head = make_head(job.widths)
    sides = [_prepare(job, head, *variant) for variant in list_variants(head)]
    for index in range(repeats):
        x = make_features(job.batch, job.widths[0], seed=1 + index)
        expected = head.evaluate(x)
        for side in sides:
            plan = side.plan
            marks = [time.thread_time()]
            sent = side.secret.encrypt(pack(plan, x), plan.input_scale)
            marks.append(time.thread_time())
            answer = side.evaluator.evaluate(sent, side.keys)
            marks.append(time.thread_time())
            scores = unpack(plan, side.secret.open_answer(plan, answer), len(x))
            marks.append(time.thread_time())
            for taken, spent in zip((side.encrypt, side.server, side.decrypt), np.diff(marks), strict=True):
                taken.append(1e3 * float(spent))
            side.errors.append(float(np.abs(scores - expected).max()))
            side.bytes_up, side.bytes_down = sum(map(len, sent)), sum(map(len, answer))
    return [_make_row(job, head, side, peer) for side in sides]


def list_variants(head: "Head") -> list[tuple[str, "EngineChoice", "Digits"]]:
    """Engines that are available here, with the digits of their plans."""
    from he_infer.ckks.engines.choice import EngineChoice
    from he_infer.ckks.engines.native.code_cache import default_folder
    from he_infer.ckks.engines.native.support import find_obstacle
    from he_infer.ckks.planning.circuit import build_circuit
    from he_infer.ckks.planning.order import Digits

    variants = [("SEAL", EngineChoice(), Digits.POSITIVE)]
    if find_obstacle() is None:
        native = EngineChoice(default_folder())
        variants.append(("native", native, Digits.POSITIVE))
        if build_circuit(head).activations:  # without key switches no plan depends on digits
            variants.append(("native, plan for centred digits", native, Digits.CENTRED))
    return variants


def _prepare(job: Job, head: "Head", engine: str, choice: "EngineChoice", digits: "Digits") -> _Side:
    from he_infer.ckks.evaluate import Evaluator
    from he_infer.ckks.planning.search import make_plan
    from he_infer.client.keys.secret_key import SecretKey
    from he_infer.client.primitive_times import calibrate

    plan = make_plan(head, batch=job.batch, policy=job.policy, precision=job.precision, digits=digits)
    secret = SecretKey.generate(plan.parameters)
    evaluator = Evaluator(plan, head, choice)
    before = calibrate(plan.parameters, _list_primitives(plan, head, evaluator), engine=choice)
    parts = secret.evaluation_keys(plan)
    keys = evaluator.load_keys(parts) if parts else None
    return _Side(engine, plan, choice, secret, evaluator, parts, keys, before)


def _list_primitives(plan: "Plan", head: "Head", evaluator: "Evaluator") -> list[tuple[str, int]]:
    from he_infer.ckks.planning.circuit import build_circuit
    from he_infer.ckks.planning.cost import count_primitives

    counts = count_primitives(plan, build_circuit(head), native=evaluator.engine_name == "native")
    return [(each.primitive, each.level) for each in counts]


def _make_row(job: Job, head: "Head", side: _Side, peer: tuple[float, float] | None) -> Row:
    import numpy as np

    from he_infer.ckks.engines.native.support import find_obstacle
    from he_infer.ckks.planning.circuit import build_circuit
    from he_infer.ckks.planning.cost import estimate_cost
    from he_infer.client.primitive_times import calibrate

    plan, circuit = side.plan, build_circuit(head)
    # Prices from before and after the measurement, so that a change of the machine's speed shows in both.
    after = calibrate(plan.parameters, _list_primitives(plan, head, side.evaluator), engine=side.choice)
    prices = {name: (price + after[name]) / 2 for name, price in side.before.items()}
    native = side.evaluator.engine_name == "native"
    predicted, limit = (estimate_cost(plan, circuit, found, native=native) for found in (side.before, prices))
    clear = head.evaluate(make_features(256, job.widths[0]))
    median = float(np.median(side.server))
    low, high = np.percentile(side.server, [25, 75])
    work = count_work(plan, circuit)
    bounds: tuple[float, float] | tuple[None, None] = (None, None)
    if find_obstacle() is None:
        from experiments.cost.machine_peaks import measure_peaks

        bounds = measure_peaks().bound_ms(work.multiplications, work.moved_bytes)
    return Row(
        job=job.name if job.policy == "hidden" else f"{job.name}, {job.policy}",
        engine=side.engine,
        plan=str(plan.parameters),
        images=job.batch,
        key_switches=plan.key_switches,
        transforms=work.transforms,
        key_bytes_read=work.key_bytes,
        multiplications=work.multiplications,
        moved_bytes=work.moved_bytes,
        fma_bound_ms=bounds[0],
        memory_bound_ms=bounds[1],
        server_ms=median,
        server_ms_low=float(low),
        server_ms_high=float(high),
        predicted_ms=predicted.server_ms,
        tenseal_mm_ms=None if peer is None else peer[0],
        tenseal_max_abs_error=None if peer is None else peer[1],
        ratio=None if peer is None else peer[0] * job.batch / median,
        limit_ms=limit.server_ms,
        over_limit=median / limit.server_ms,
        bytes_up=side.bytes_up,
        predicted_bytes_up=limit.bytes_up,
        bytes_down=side.bytes_down,
        predicted_bytes_down=limit.bytes_down,
        evaluation_key_bytes=sum(map(len, side.parts.values())),
        predicted_key_bytes=limit.key_bytes,
        weight_bytes=side.evaluator.weight_bytes,
        predicted_weight_bytes=limit.weight_bytes,
        client_encrypt_ms=float(np.median(side.encrypt)),
        client_decrypt_ms=float(np.median(side.decrypt)),
        max_abs_error=max(side.errors),
        predicted_error=plan.error,
        score_range=float(clear.max() - clear.min()),
    )


def two_processes(job: Job, choice: "EngineChoice") -> float:
    """Images a second, by the wall clock, of a batch plan in two processes at once."""
    import multiprocessing
    import time

    context = multiprocessing.get_context("spawn")
    ready, go = context.Barrier(3), context.Barrier(3)
    workers = [context.Process(target=_serve, args=(job, choice, ready, go), daemon=True) for _ in range(2)]
    for worker in workers:
        worker.start()
    ready.wait()
    started = time.perf_counter()
    go.wait()
    for worker in workers:
        worker.join()
    return 2 * _ROUNDS * job.batch / (time.perf_counter() - started)


_ROUNDS = 3


def _serve(job: Job, choice: "EngineChoice", ready: Any, go: Any) -> None:
    from he_infer.ckks.evaluate import Evaluator
    from he_infer.ckks.packing import pack
    from he_infer.ckks.planning.search import make_plan
    from he_infer.client.keys.secret_key import SecretKey

    head = make_head(job.widths)
    plan = make_plan(head, batch=job.batch, policy=job.policy, precision=job.precision)
    secret = SecretKey.generate(plan.parameters)
    evaluator = Evaluator(plan, head, choice)
    parts = secret.evaluation_keys(plan)
    keys = evaluator.load_keys(parts) if parts else None
    sent = secret.encrypt(pack(plan, make_features(job.batch, job.widths[0])), plan.input_scale)
    evaluator.evaluate(sent, keys)
    ready.wait()
    go.wait()
    for _ in range(_ROUNDS):
        evaluator.evaluate(sent, keys)


def make_features(images: int, width: int, *, seed: int = 1) -> Any:
    """Random features (images, width) within the planned bound."""
    import numpy as np

    return np.clip(np.random.default_rng(seed).normal(size=(images, width)), -4, 4)


def _show(console: Any, row: Row) -> None:
    from rich.table import Table

    table = Table(title=f"{row.job}, {row.engine}: {row.plan}", title_justify="left", show_header=False)
    per_image = f", {row.server_ms / row.images:.3f} an image" if row.images > 1 else ""
    spread = f"{row.server_ms:.2f} ms ({row.server_ms_low:.2f} to {row.server_ms_high:.2f}){per_image}"
    table.add_row("server", spread)
    table.add_row("predicted", f"{row.predicted_ms:.2f} ms; limit {row.limit_ms:.2f}, over it {row.over_limit:.2f}")
    if row.ratio is not None and row.tenseal_mm_ms is not None:
        table.add_row("TenSEAL mm", f"{row.tenseal_mm_ms:.0f} ms an image, {row.ratio:.0f} times the server's")
    work = f"{row.key_switches} key switches, {row.transforms} transforms"
    table.add_row("work", f"{work}, {row.key_bytes_read / 1e6:.1f} MB of keys read")
    if row.fma_bound_ms is not None and row.memory_bound_ms is not None:
        counted = f"{row.multiplications / 1e6:.2f} M multiplications, {row.moved_bytes / 1e6:.2f} MB"
        table.add_row("counted", f"{counted}; {row.fma_bound_ms:.3f} and {row.memory_bound_ms:.3f} ms at the peaks")
    sizes = f"{row.bytes_up / 1e3:.1f} KB, {row.bytes_down / 1e3:.1f} KB, {row.evaluation_key_bytes / 1e6:.2f} MB"
    table.add_row("up, down, keys", sizes)
    table.add_row("client", f"encrypt {row.client_encrypt_ms:.2f} ms, decrypt {row.client_decrypt_ms:.2f} ms")
    table.add_row("weights", f"{row.weight_bytes / 1e6:.2f} MB, predicted {row.predicted_weight_bytes / 1e6:.2f}")
    below = f"predicted below {row.predicted_error:.1e}, range {row.score_range:.1f}"
    table.add_row("error", f"{row.max_abs_error:.1e}, {below}")
    console.print(table)
