"""Short figures of tables and charts."""

from collections.abc import Callable

import pytest

from experiments.cost.price_chart import _short
from experiments.present.screen_tables import format_short


@pytest.mark.parametrize("shorten", [format_short, _short])
@pytest.mark.parametrize(("value", "shown"), [(99.4, "99"), (99.7, "100"), (5092.0, "5,092"), (0.67, "0.67")])
def test_a_short_figure_is_no_power_of_ten(shorten: Callable[[float], str], value: float, shown: str) -> None:
    assert shorten(value) == shown
