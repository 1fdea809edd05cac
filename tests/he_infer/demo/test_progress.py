"""The demo's steps on terminals of any width."""

import io

import pytest
from rich.console import Console

from he_infer.demo.progress import Steps


@pytest.mark.parametrize("width", [60, 80, 110])
def test_results_and_remarks_stay_indented_below_their_step(width: int) -> None:
    out = io.StringIO()
    steps = Steps(Console(file=out, width=width), 2)
    with steps.step("Hospital: store images") as step:
        step.result = "27 images with [brackets], 3.1 MB, back bit for bit, and so on until the line is full " * 2
    steps.remark("Different patients: 9 to learn from and 8 to test on, none in both, which is few. " * 2, "yellow")
    first, *others = out.getvalue().splitlines()
    assert first.startswith("[1/2] Hospital: store images ")
    assert first.endswith(" s")
    assert len(others) >= 2
    assert all(line.startswith("      ") and not line[6:].startswith(" ") for line in others)
    assert all(len(line) <= width for line in (first, *others))
    assert "[brackets]" in out.getvalue()


def test_step_that_fails_prints_no_time() -> None:
    out = io.StringIO()
    steps = Steps(Console(file=out), 1)
    with pytest.raises(ZeroDivisionError), steps.step("Divide"):
        raise ZeroDivisionError
    assert "Divide" not in out.getvalue()
