"""The request for a plan: checked once, then frozen."""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from he_infer.ckks.parameters import BUDGET, Parameters
from he_infer.ckks.planning.circuit import Circuit, build_circuit
from he_infer.ckks.planning.noise import TYPICAL
from he_infer.ckks.planning.order import Digits
from he_infer.ckks.planning.plan import POLICIES
from he_infer.errors import ParameterError
from he_infer.head.layers import Head
from he_infer.head.score_bounds import bound_scores

MAX_BATCH = max(BUDGET)
_EIGENVALUE_WORK = 3e8
"""Cubes of hidden values, times scores, whose eigenvalues are worth a fraction of a second."""
_STEPS = 50
"""The score that varies most has at least so many steps of the precision in its standard deviation."""
_SAMPLES = 256


@dataclass(frozen=True, eq=False)
class PlanRequest:
    """A head, and what its plan must keep to.

    Raises:
        ParameterError: a policy, batch, precision or bound that cannot be had.
    """

    head: Head
    batch: int = 1
    """Images a request."""
    policy: str = "hidden"
    """`hidden` (answers show the scores alone) or `open` (they may show more of the weights)."""
    precision: float = 1e-3
    """Largest error of a score wanted."""
    input_bound: float = 4.0
    """Largest |feature|."""
    parameters: Parameters | None = None
    """Ring size and chain of the user's own; None: the search chooses."""
    digits: Digits = Digits.POSITIVE
    """The digits of the engine that the plan is for; every engine carries out plans for positive ones."""
    noise_share: float = 0.5
    """The part of the precision that is the server's noise, under `hidden`; the rest is for the encryption's error."""
    max_request: int | None = None
    """Bytes that a request's ciphertexts may have; None: no limit."""

    def __post_init__(self) -> None:
        if self.policy not in POLICIES:
            raise ParameterError(f"There is no policy {self.policy!r}; use one of {', '.join(POLICIES)}.")
        if not 1 <= self.batch <= MAX_BATCH:
            raise ParameterError(f"A request of {self.batch} images cannot be planned; expected 1 to {MAX_BATCH}.")
        if not 0 < self.precision < math.inf:
            raise ParameterError(f"A precision of {self.precision} cannot be planned for; expected a positive number.")
        if not 0 < self.input_bound < math.inf:
            raise ParameterError(
                f"A bound of {self.input_bound} for the features cannot be planned for; expected one above 0."
            )
        if self.max_request is not None and self.max_request < 1:
            raise ParameterError(f"A request of at most {self.max_request} bytes holds nothing; expected 1 or more.")

    @cached_property
    def circuit(self) -> Circuit:
        """The head in the form that encryption computes.

        Raises:
            HeadError: no score depends on the features.
        """
        return build_circuit(self.head)

    @cached_property
    def effective_precision(self) -> float:
        """The precision that is planned for: what was asked, or finer where the head's scores are small against it.

        Scores that differ by a few times the precision would be noise, and their labels a matter of luck. One digit is
        kept, so that it does not depend on the last bits of a machine's arithmetic.
        """
        spread = float(self.head.evaluate(_spread_features(self.head.width, self.input_bound)).std(axis=0).max())
        if spread / _STEPS >= self.precision or spread == 0:
            return self.precision
        return float(f"{spread / _STEPS:.0e}")

    @property
    def precision_of_circuit(self) -> float:
        """The same in units of the circuit's scores."""
        return self.effective_precision * self.circuit.gain

    @cached_property
    def largest_score(self) -> float:
        """The largest absolute score for features within the bound, in units of the circuit's scores.

        From the head itself, whose quadratic forms are bounded by eigenvalues, where that takes little time; infinite
        otherwise.
        """
        hidden, head = self.circuit.linear[0].outputs, self.head
        if not self.circuit.activations or hidden**3 * head.classes > _EIGENVALUE_WORK:
            return math.inf
        return float(np.abs(bound_scores(head, self.input_bound)).max()) * self.circuit.gain


def _spread_features(width: int, input_bound: float) -> NDArray[np.float64]:
    """(samples, width) features of typical size that are alike on every machine: cosines of unrelated frequencies."""
    phases = np.outer(np.arange(1, _SAMPLES + 1), np.sqrt(np.arange(2, width + 2)))
    return np.asarray(TYPICAL * input_bound * math.sqrt(2) * np.cos(2 * np.pi * (phases % 1.0)))
