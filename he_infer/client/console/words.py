"""Results in words and as numbers for a small drawing, worded so that readers do not overestimate their certainty."""

from dataclasses import dataclass

from he_infer.client.results import Result


@dataclass(frozen=True)
class Reading:
    """A result in the page's words."""

    headline: str
    sentence: str
    drawn: str
    """Class whose probability the drawing shows; the operating point belongs to this class."""
    percent: float
    operating_point: float | None
    """Operating point, percent; None if the model states none."""


def read(result: Result) -> Reading | None:
    """Put a classified result into words: class, calibrated probability, and its side of the operating point."""
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
