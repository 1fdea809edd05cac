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
"""Largest (hidden values)^3 * scores for which eigenvalues are computed: a fraction of a second."""
_STEPS = 50
"""Least standard deviation of the score that varies most, in units of the precision."""
_SAMPLES = 256


@dataclass(frozen=True, eq=False)
class PlanRequest:
    """A head, and the requirements on its plan.

    Raises:
        ParameterError: the policy, batch, precision or bound is not a valid one.
    """

    head: Head
    batch: int = 1
    """Number of images a request."""
    policy: str = "hidden"
    """`hidden` (answers reveal only the scores) or `open` (they may reveal more of the weights)."""
    precision: float = 1e-3
    """Largest error allowed in a score."""
    input_bound: float = 4.0
    """Largest |feature|."""
    parameters: Parameters | None = None
    """Ring size and chain that the user chose; None: the search chooses."""
    digits: Digits = Digits.POSITIVE
    """Digits of the engine that the plan is for; every engine runs plans for positive ones."""
    noise_share: float = 0.5
    """Share of the precision that the server's noise takes under `hidden`; the encryption's error has the rest."""
    max_request: int | None = None
    """Most bytes of a request's ciphertexts; None: no limit."""

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
        """The head in the form that the encrypted computation takes.

        Raises:
            HeadError: no score depends on the features.
        """
        return build_circuit(self.head)

    @cached_property
    def effective_precision(self) -> float:
        """The precision that is planned for: as requested, or finer if the head's scores are small against it.

        If scores differed by only a few times the precision, noise would decide the labels. The value is rounded to one
        digit, so that it does not depend on the last bits of a machine's arithmetic.
        """
        spread = float(self.head.evaluate(_spread_features(self.head.width, self.input_bound)).std(axis=0).max())
        if spread / _STEPS >= self.precision or spread == 0:
            return self.precision
        return float(f"{spread / _STEPS:.0e}")

    @property
    def precision_of_circuit(self) -> float:
        """The effective precision in units of the circuit's scores."""
        return self.effective_precision * self.circuit.gain

    @cached_property
    def largest_score(self) -> float:
        """The largest absolute score for features within the bound, in units of the circuit's scores.

        Computed from the head itself, whose quadratic forms are bounded by eigenvalues; infinite if that would take too
        long.
        """
        hidden, head = self.circuit.linear[0].outputs, self.head
        if not self.circuit.activations or hidden**3 * head.classes > _EIGENVALUE_WORK:
            return math.inf
        return float(np.abs(bound_scores(head, self.input_bound)).max()) * self.circuit.gain


def _spread_features(width: int, input_bound: float) -> NDArray[np.float64]:
    """Return (samples, width) features of typical size, equal on every machine: cosines of unrelated frequencies."""
    phases = np.outer(np.arange(1, _SAMPLES + 1), np.sqrt(np.arange(2, width + 2)))
    return np.asarray(TYPICAL * input_bound * math.sqrt(2) * np.cos(2 * np.pi * (phases % 1.0)))
