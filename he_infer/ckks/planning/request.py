"""What a plan is wanted for: checked once, then frozen."""

import math
from dataclasses import dataclass
from functools import cached_property

from he_infer.ckks.parameters import BUDGET, Parameters
from he_infer.ckks.planning.circuit import Circuit, build_circuit
from he_infer.ckks.planning.plan import POLICIES
from he_infer.errors import ParameterError
from he_infer.head.layers import Head

MAX_BATCH = max(BUDGET)


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

    @cached_property
    def circuit(self) -> Circuit:
        """The head in the form that encryption computes.

        Raises:
            HeadError: no score depends on the features.
        """
        return build_circuit(self.head)
