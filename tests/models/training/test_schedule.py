"""The learning rate's cycle for any number of steps."""

import pytest
import torch

from models.training.schedule import schedule_one_cycle


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 5, 6, 10, 11, 100])
def test_any_number_of_steps_gives_rates_below_the_peak_that_end_low(steps: int) -> None:
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimiser = torch.optim.SGD([parameter], lr=1.0)
    schedule = schedule_one_cycle(optimiser, 0.5, steps)
    rates = []
    for _ in range(steps):
        rates.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        if len(rates) < steps:
            schedule.step()
    assert max(rates) <= 0.5
    assert rates[-1] < 1e-3
    if steps >= 5:
        assert max(rates) > 0.4
