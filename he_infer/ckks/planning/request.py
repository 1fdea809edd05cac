"""What a plan is wanted for: checked once, then frozen."""

import math
from dataclasses import dataclass
from functools import cached_property

from he_infer.ckks.parameters import BUDGET, Parameters
from he_infer.ckks.planning.circuit import Circuit, build_circuit
from he_infer.ckks.planning.order import Digits
from he_infer.ckks.planning.plan import POLICIES
from he_infer.ckks.planning.reach import bound_values
from he_infer.errors import ParameterError
from he_infer.head.layers import Head

MAX_BATCH = max(BUDGET)
_STEPS = 512
"""The largest likely score has at least so many steps of the precision."""


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

        Scores within a few times the precision would be noise, and their labels a matter of luck.
        """
        likely = bound_values(self.circuit, self.input_bound, certain=False).scores / self.circuit.gain
        return min(self.precision, likely / _STEPS)

    @property
    def precision_of_circuit(self) -> float:
        """The same in units of the circuit's scores."""
        return self.effective_precision * self.circuit.gain
