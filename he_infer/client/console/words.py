"""Results in words and as the numbers of a small drawing, for people who are not to overread them."""

from dataclasses import dataclass

from he_infer.client.results import Result


@dataclass(frozen=True)
class Reading:
    """A result as the page says it."""

    headline: str
    sentence: str
    percent: float
    operating_point: float | None
    """In percent; None where the model states none."""


def read(result: Result) -> Reading | None:
    """Say a classified result: class, calibrated probability, and where it lies against the operating point."""
    if result.label is None or result.probability is None:
        return None
    percent = round(100 * result.probability, 1)
    others = len(result.probabilities) - 1
    point = None if result.threshold is None else 100 * result.threshold
    if point is not None:
        side = "at or above" if percent >= point else "below"
        sentence = f"{percent:g} percent: {side} the model's operating point of {point:g} percent."
    elif others <= 1:
        sentence = f"{percent:g} percent: the more probable one of two classes."
    else:
        sentence = f"{percent:g} percent: the most probable one of {others + 1} classes."
    return Reading(result.label, sentence, percent, point)
