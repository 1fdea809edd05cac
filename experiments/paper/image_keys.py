"""Fig. 6f: image keys derived from networks, with their randomness report.

A cipher key and an image's salt give a subkey for each stage, the subkey a network, and the network a key stream. The
report asks whether the streams can be told from random bytes: SP 800-22 over streams of different keys beside AES-CTR,
and how much of a stream changes with one bit of the key.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from cipher.algorithm.engine import best
from cipher.algorithm.features import LEAST_LAYERS, LEAST_NODES
from cipher.algorithm.geometry import grid_of
from cipher.algorithm.key_schedule import Stage, extract_key, update_key
from cipher.algorithm.keystream import read_stream
from cipher.algorithm.network import create_network
from cipher.analysis.line import Verdict
from cipher.analysis.randomness import control_sequences, examine
from cipher.analysis.sp800_22 import battery
from cipher.analysis.sp800_22.bits import Bits, from_bytes
from cipher.analysis.suite import Evaluation, Seeds
from experiments.image_cipher.figures import draw_randomness
from experiments.paper.item import PaperRequest, PaperResult
from experiments.present.drawing import BLUE, Picture, draw_picture, show_image
from experiments.present.markdown_tables import Table
from he_infer.terminal import show_progress

IMAGE = grid_of((512, 512), 2)
"""The image that the keys are for: its shape is bound into them."""
_BYTES = battery.LEAST_BITS // 8
_SHOWN = 96
LEAST = 10
"""Least number of sequences for a meaningful test."""


def make_key_stream(key: bytes, salt: bytes, count: int, stage: Stage = Stage.LOWER) -> NDArray[np.uint8]:
    """The first `count` bytes of the stream that an image's key and salt give a stage."""
    (subkey,) = update_key(extract_key(key, salt), stage, IMAGE)
    network = create_network(subkey, LEAST_LAYERS, LEAST_NODES, best())
    words: NDArray[np.uint8] = read_stream(network, -(-count // 8), best()).view(np.uint8)
    return words[:count]


def run_image_keys(request: PaperRequest) -> PaperResult:
    """Key streams of `request.keys` keys: SP 800-22, and how far one key bit changes them."""
    seeds, sequences = Seeds(request.seed), max(LEAST, request.keys)

    def streams() -> Iterator[Bits]:
        index = 0
        while True:
            yield from_bytes(make_key_stream(seeds.key("6f", index), seeds.salt, _BYTES).tobytes())
            index += 1

    with show_progress("SP 800-22, key streams", sequences, console=request.console) as step:
        ours = examine("network key streams", streams(), sequences, _counting(step))
    with show_progress("SP 800-22, AES-256-CTR", sequences, console=request.console) as step:
        control = examine("AES-256-CTR", control_sequences(seeds), sequences, _counting(step))
    changed = _avalanche(seeds, sequences)
    bits = 8 * _BYTES
    deviation = (changed - 0.5) * 2 * bits**0.5
    p_value = float(stats.kstest(deviation, "norm").pvalue)
    figures: dict[str, Any] = {
        "sequences": sequences,
        "bits": bits,
        "key_bits_changed": {
            "mean": float(changed.mean()),
            "least": float(changed.min()),
            "most": float(changed.max()),
        },
        "key_change_p": p_value,
        "failed": [line.name for line in ours.failed],
        "control_failed": [line.name for line in control.failed],
        "tests": {line.name: _of(line.statistic, line.p_rate, line.p_pooled, line.verdict) for line in ours.lines},
        "control": {line.name: _of(line.statistic, line.p_rate, line.p_pooled, line.verdict) for line in control.lines},
    }
    return PaperResult(
        title="Fig. 6f: image keys from networks, and their randomness",
        parameters={"sequences": sequences, "stage": str(Stage.LOWER), "shape": [512, 512], "bits": 16},
        figures=figures,
        picture=draw_randomness([ours, control]),
        lines=(
            f"{sequences} key streams of {bits} bits, a fresh key each: {len(ours.failed)} of {len(ours.lines)} tests "
            f"of SP 800-22 failed; AES-256-CTR beside it: {len(control.failed)}.",
            f"One key bit changes {figures['key_bits_changed']['mean']:.4%} of the stream's bits (least "
            f"{changed.min():.4%}, most {changed.max():.4%}); P = {p_value:.3f} that this is chance.",
            "Passing says that these tests see nothing; it proves nothing.",
        ),
        tables={"keys.md": _table(ours, control)},
        more={"6f-streams": draw_streams(request.seed)},
    )


def draw_streams(seed: int) -> Picture:
    """Two key streams that differ in one key bit, and where they differ, as pictures of bits."""
    seeds = Seeds(seed)
    first, second = _pair(seeds, 0, _SHOWN * _SHOWN // 8)
    bits = [np.unpackbits(stream).reshape(_SHOWN, _SHOWN) for stream in (first, second)]

    def draw(figure: Any) -> None:
        axes = figure.subplots(1, 4, width_ratios=[1, 1, 1, 1.3])
        titles = ("bits of a key stream", "one key bit changed", "where they differ")
        for axis, shown, title in zip(axes, (*bits, bits[0] ^ bits[1]), titles, strict=False):
            show_image(axis, shown, title, limits=(0, 1), size=9)
        counts = np.bincount(make_key_stream(seeds.key("6f", 0), seeds.salt, 1 << 16), minlength=256)
        axes[3].stairs(counts, np.arange(257), fill=True, color=BLUE)
        axes[3].axhline(256, color="black", linewidth=0.9)
        axes[3].set_xlabel("byte of the stream, 65,536 bytes")
        axes[3].set_ylim(0, 1.4 * counts.max())

    return draw_picture(
        draw, (8.8, 2.5), "Two key streams as bits, the bits that differ, and a flat histogram of bytes"
    )


def _pair(seeds: Seeds, index: int, count: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    key = seeds.key("6f", index)
    place = int(seeds.generator(f"6f/{index}").integers(8 * len(key)))
    other = bytearray(key)
    other[place // 8] ^= 1 << place % 8
    return make_key_stream(key, seeds.salt, count), make_key_stream(bytes(other), seeds.salt, count)


def _avalanche(seeds: Seeds, keys: int) -> NDArray[np.float64]:
    """(keys,) the share of a stream's bits that change with one bit of the key."""
    shares = []
    for index in range(keys):
        first, second = _pair(seeds, index, _BYTES)
        shares.append(float(np.unpackbits(first ^ second).mean()))
    return np.array(shares)


def _of(share: float, rate: float | None, pooled: float | None, verdict: Verdict) -> dict[str, Any]:
    return {"share": share, "p_rate": rate, "p_pooled": pooled, "verdict": verdict.value}


def _table(ours: Evaluation, control: Evaluation) -> str:
    heads = ("SP 800-22", "key streams: share passed", "P", "AES-256-CTR: share passed", "P")
    beside = {line.name: line for line in control.lines}
    rows = []
    for line in ours.lines:
        other = beside[line.name]
        shares = (f"{line.statistic:.4f}", _least(line.p_values), f"{other.statistic:.4f}", _least(other.p_values))
        rows.append((line.name, *shares))
    return Table(heads, tuple(rows)).to_markdown() + "\n"


def _least(p_values: Any) -> str:
    values = list(p_values)
    return f"{min(values):.3f}" if values else ""


def _counting(step: Any) -> Any:
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        step(done)

    return advance
