"""SP 800-22 on cipher images: many sequences of a million bits, and the positive control beside them."""

from collections.abc import Callable, Iterator

import numpy as np

from cipher.analysis import chosen, control
from cipher.analysis.line import Line, judge, threshold
from cipher.analysis.pixels import Image
from cipher.analysis.sp800_22 import battery
from cipher.analysis.sp800_22.bits import Bits, from_bytes
from cipher.analysis.subject import Subject
from cipher.analysis.suite import Evaluation, Seeds

GROUP = "SP 800-22"
_BYTES = battery.LEAST_BITS // 8


def cipher_sequences(subject: Subject, image: Image, seeds: Seeds) -> Iterator[Bits]:
    """Endless sequences of 1,000,000 bits: cipher images of the image and of a black one in turn, a key for each.

    A small image needs several cipher images for a sequence; of a large one a slice at a random place is taken, so
    that no two sequences share a key.
    """
    rng = seeds.generator("slices")
    plains = (image, chosen.black(image))
    index, gathered = 0, b""
    while True:
        key = seeds.key(f"{subject.name}/sp800-22", index)
        data = np.ascontiguousarray(subject.encrypt(plains[index % 2], key, seeds.salt)).tobytes()
        index += 1
        if len(data) > _BYTES:
            start = int(rng.integers(len(data) - _BYTES, endpoint=True))
            data = data[start : start + _BYTES]
        gathered += data
        if len(gathered) >= _BYTES:
            yield from_bytes(gathered[:_BYTES])
            gathered = gathered[_BYTES:] if len(data) < _BYTES else b""


def control_sequences(seeds: Seeds) -> Iterator[Bits]:
    """Endless sequences of AES-256-CTR key stream, a key for each: the positive control."""
    index = 0
    while True:
        yield from_bytes(control.keystream(seeds.key("aes-ctr", index), _BYTES))
        index += 1


def examine(name: str, source: Iterator[Bits], sequences: int, progress: Callable[[int], None]) -> Evaluation:
    """Run the fifteen tests on a number of sequences and judge each test over all of them."""
    results: dict[str, list[np.ndarray[tuple[int], np.dtype[np.float64]]]] = {test: [] for test in battery.NAMES}
    for _ in range(sequences):
        for test, p_values in battery.run(next(source)).items():
            results[test].append(p_values)
        progress(1)
    verdicts = (battery.judge(test, np.array(values)) for test, values in results.items())
    lines = [_line(verdict, sequences) for verdict in verdicts if verdict is not None]
    return Evaluation(name, judge(lines), threshold(lines))


def _line(verdict: battery.Verdict, sequences: int) -> Line:
    notes = [f"{verdict.parts} parts, the worst {verdict.worst_share:.1%}"] if verdict.parts > 1 else []
    if verdict.sequences < sequences:
        notes.append(f"applies to {verdict.sequences} of {sequences} sequences")
    return Line(
        group=GROUP,
        name=verdict.name,
        statistic=verdict.passed_share,
        criterion="share of P >= 0.01 (exact binomial), P-values uniform (Kolmogorov-Smirnov)",
        source="NIST SP 800-22 rev. 1a, 4.2",
        expected=1 - battery.ALPHA,
        keys=verdict.sequences,
        p_rate=verdict.p_proportion,
        p_pooled=verdict.p_uniformity,
        note="; ".join(notes),
    )
