"""Extraction: exact after the theoretical number of queries, and stopped by a query limit."""

from pathlib import Path

import numpy as np
import pytest

from experiments.leaks import extraction
from experiments.leaks.extraction_attack import (
    compute_relative_error,
    count_unknowns,
    expand_monomials,
    make_affine_queries,
    make_quadratic_queries,
    recover_affine,
    recover_quadratic,
)
from he_infer.head.layers import Head, Linear
from he_infer.local_server import LocalServer
from models.bundle import Bundle


def test_an_affine_head_is_known_after_d_plus_1_queries_and_not_before() -> None:
    random = np.random.default_rng(1)
    weight, bias = random.normal(size=(3, 20)), random.normal(size=3)
    queries = make_affine_queries(20, 4.0, random)
    assert queries.shape == (count_unknowns(20, 1), 20)
    assert np.abs(queries).max() < 4.0
    answers = queries @ weight.T + bias
    errors = [compute_relative_error(recover_affine(queries[:n], answers[:n]).weight, weight) for n in range(1, 22)]
    assert errors[-1] < 1e-12
    assert errors[-2] > 0.05
    assert np.all(np.diff(errors) <= 1e-12)
    x = random.normal(size=(4, 20))
    np.testing.assert_allclose(recover_affine(queries, answers).evaluate(x), x @ weight.T + bias)


def test_a_quadratic_head_is_known_after_as_many_queries_as_it_has_coefficients() -> None:
    random = np.random.default_rng(2)
    first, last = random.normal(size=(4, 9)), random.normal(size=(2, 4))

    def head(x: np.ndarray) -> np.ndarray:
        return (x @ first.T + 0.3) ** 2 @ last.T - 1

    count = count_unknowns(9, 2)
    assert count == expand_monomials(np.zeros((1, 9))).shape[1] == 55
    queries = make_quadratic_queries(9, 2.0, count, random)
    x = random.uniform(-1, 1, (30, 9))
    assert compute_relative_error(recover_quadratic(queries, head(queries), 2.0).evaluate(x), head(x)) < 1e-6
    few = recover_quadratic(queries[:30], head(queries[:30]), 2.0)
    assert compute_relative_error(few.evaluate(x), head(x)) > 0.05


def test_answer_errors_bound_the_recovered_weight_errors() -> None:
    random = np.random.default_rng(3)
    weight = random.normal(size=(2, 64))
    queries = make_affine_queries(64, 4.0, random)
    answers = queries @ weight.T + random.uniform(-1e-3, 1e-3, (65, 2))
    # Each direction is at least as long as the bound, so no error of an answer, and of the origin's, grows.
    assert np.abs(recover_affine(queries, answers).weight - weight).max() < 2e-3 * np.sqrt(64) / 4


@pytest.mark.parametrize(("limit", "expected"), [(None, 33), (8, 8)])
def test_daily_query_limit_ends_the_attack(
    small_bundle: Path, tmp_path: Path, limit: int | None, expected: int
) -> None:
    random = np.random.default_rng(4)
    head = Head((Linear(random.normal(0, 0.3, (2, 32)), random.normal(0, 0.1, 2)),))
    bundle = Bundle.load(small_bundle).with_head(head)
    bundle.save(tmp_path / "linear.hebundle")
    with LocalServer([tmp_path / "linear.hebundle"], tmp_path / "data", options=["--workers", "1"]) as server:
        token = extraction._token(server, "attacker", limit)
        queries = make_affine_queries(32, bundle.input_bound, random)
        steps: list[int] = []
        answers, limited = extraction._ask(server, token, bundle, queries, steps.append)
    assert (len(answers), limited, steps[-1]) == (expected, limit is not None, expected)
    error = compute_relative_error(recover_affine(queries[:expected], answers).weight, bundle.head.linear[0].weight)
    assert error < 1e-2 if limit is None else error > 0.3
