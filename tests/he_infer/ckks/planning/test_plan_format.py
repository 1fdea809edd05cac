"""The plan's JSON has the documented member names, and others are refused."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from he_infer.ckks.planning.plan import Plan
from he_infer.ckks.planning.search import make_plan
from he_infer.errors import ParameterError
from tests.he_infer.ckks.kit import make_head

STAGE = {"layout", "weight_scale", "rescaled", "degree"}
HIDDEN = {"inputs", "outputs", "slots", "images", "shifted", "lanes", "parts", "size", "baby", "giant"}
TILE = {"kind", "inputs", "outputs", "ring_size", "images", "chunk", "rows"}
TRACE = {"kind", "inputs", "outputs", "ring_size", "images", "used"}


@pytest.mark.parametrize(("widths", "output", "stages"), [((20, 3), TILE, 0), ((20, 6, 3), TRACE, 1)])
def test_layouts_written_have_the_documented_member_names(
    widths: tuple[int, ...], output: set[str], stages: int
) -> None:
    value = json.loads(make_plan(make_head(widths)).to_json())
    assert set(value["output"]) == output
    assert [set(stage) for stage in value["stages"]] == [STAGE] * stages
    assert [set(stage["layout"]) for stage in value["stages"]] == [HIDDEN] * stages


MEMBERS = {
    "version", "policy", "ring_size", "modulus_bits", "input_scale", "width", "classes", "head_digest", "input_bound",
    "precision", "batch", "error", "stages", "output", "output_scale", "gain", "order", "digits", "answer",
}  # fmt: skip


def test_plan_written_has_the_documented_member_names() -> None:
    value = json.loads(make_plan(make_head((20, 6, 3))).to_json())
    assert set(value) == MEMBERS
    assert set(value["order"]) == {"folds", "output"}
    assert set(value["answer"]) == {"bits", "noise"}


def rename_kind(value: dict[str, Any]) -> None:
    value["output"]["kind"] = "Trace"


def add_to_output(value: dict[str, Any]) -> None:
    value["output"]["extra"] = 1


def add_to_layout(value: dict[str, Any]) -> None:
    value["stages"][0]["layout"]["extra"] = 1


def drop_from_layout(value: dict[str, Any]) -> None:
    del value["stages"][0]["layout"]["lanes"]


@pytest.mark.parametrize("change", [rename_kind, add_to_output, add_to_layout, drop_from_layout])
def test_unknown_or_missing_member_is_refused(change: Callable[[dict[str, Any]], None]) -> None:
    value = json.loads(make_plan(make_head((20, 6, 3))).to_json())
    change(value)
    with pytest.raises(ParameterError, match="The plan is damaged"):
        Plan.from_json(json.dumps(value))
