"""Results in words and as the numbers of a small drawing, for people who are not to overread them."""

from dataclasses import dataclass

from he_infer.client.results import Result


@dataclass(frozen=True)
class Reading:
    """A result as the page says it."""

    headline: str
    sentence: str
    drawn: str
    """The class whose probability the drawing shows: the one that the operating point is for."""
    percent: float
    operating_point: float | None
    """In percent; None where the model states none."""


def read(result: Result) -> Reading | None:
    """Say a classified result: class, calibrated probability, and where it lies against the operating point."""
    if result.label is None or result.probability is None:
        return None
    percent = round(100 * result.probability, 1)
    others = len(result.probabilities) - 1
    if result.threshold is not None and result.positive is not None and result.positive in result.probabilities:
        share, point = round(100 * result.probabilities[result.positive], 1), round(100 * result.threshold, 1)
        side = "at or above" if result.label == result.positive else "below"
        sentence = (
            f"{percent:g} percent. '{result.positive}' has {share:g} percent, {side} the model's operating point of "
            f"{point:g} percent."
        )
        return Reading(result.label, sentence, result.positive, share, point)
    if others <= 1:
        sentence = f"{percent:g} percent: the more probable one of two classes."
    else:
        sentence = f"{percent:g} percent: the most probable one of {others + 1} classes."
    return Reading(result.label, sentence, result.label, percent, None)
