"""The speed experiment's rows hold what was measured, and TenSEAL's path computes the same head."""

import pytest

from experiments.cost.speed import Job, make_head, measure
from experiments.cost.speed_peer import milliseconds
from he_infer.head.layers import Head
from tests.he_infer.ckks.kit import features


@pytest.mark.parametrize("job", [Job("linear", (20, 3), "open"), Job("mlp", (20, 6, 3), "hidden", 4)])
def test_speed_row_has_consistent_figures(job: Job) -> None:
    row = measure(job, 3, (100.0, 0.0))
    assert row.server_ms_low <= row.server_ms <= row.server_ms_high
    assert row.over_limit == pytest.approx(row.server_ms / row.limit_ms)
    assert row.ratio == pytest.approx(100.0 * job.batch / row.server_ms)
    assert row.max_abs_error <= row.predicted_error
    assert (row.evaluation_key_bytes == 0) == (job.policy == "open")
    assert row.predicted_weight_bytes / 1.2 < row.weight_bytes < row.predicted_weight_bytes * 1.2


def test_tenseal_computes_the_same_head() -> None:
    head = make_head((20, 6, 3))
    assert isinstance(head, Head)
    taken, error = milliseconds(head, features(1, 20), 1)
    assert taken > 0
    assert error < 1e-2
