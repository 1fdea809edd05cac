"""What leaves the client of decrypted scores: rounded, or flooded by a known measure, and by one door alone."""

import ast
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import he_infer
from he_infer.client.classifier import Scores
from he_infer.client.release.noise import Flooding, rounded
from he_infer.client.release.sharing_budget import count
from he_infer.errors import NotThisFormat, ParameterError, ShapeError, UsageError

ROOT = Path(he_infer.__file__).parent


def calls(name: str) -> set[str]:
    """The modules of he_infer in which something of this name is called or read as an attribute."""
    found = set()
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if (isinstance(node, ast.Attribute) and node.attr == name) or (
                isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Load)
            ):
                found.add(path.relative_to(ROOT).as_posix())
    return found


def test_scores_are_opened_and_read_raw_in_one_module_alone() -> None:
    # A simulation unpacks what was never encrypted.
    assert calls("unpack") - {"ckks/packing.py", "ckks/simulate.py"} <= {"client/classifier.py"} | {
        name for name in calls("unpack") if "struct" in (ROOT / name).read_text(encoding="utf-8")
    }
    assert {name for name in calls("_opened") if name != "client/classifier.py"} == set()
    assert calls("errors") & {"commands/client/classify.py", "client/connection/session.py"} == set()


def test_secret_key_operations_are_named_in_the_client_s_one_module_alone() -> None:
    for name in ("Decryptor", "KeyGenerator"):
        assert calls(name) == {"client/keys/secret_key.py"}, name
    # The engine encrypts too: zeros under a client's public key, so that answers do not show the weights.
    assert calls("Encryptor") <= {"client/keys/secret_key.py", "ckks/engines/seal.py"}


def test_nothing_unrounded_can_be_read_of_scores_by_public_names() -> None:
    raw = np.array([[0.12345678, -3.3333333], [1e-9, 2.0]])
    scores = Scores(raw, 1e-3, (), ())
    for name in dir(scores):
        if name.startswith("_") or callable(getattr(scores, name)):
            continue
        value = getattr(scores, name)
        if isinstance(value, np.ndarray) and value.dtype == np.float64:
            np.testing.assert_array_equal(value, np.round(value, 3), err_msg=name)
    assert "0.123" not in repr(scores)
    assert scores.labels.tolist() == [0, 1]


@given(
    st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=20),
    st.floats(1e-9, 50, exclude_min=True),
)
def test_rounding_is_at_least_as_coarse_as_the_plan_s_precision(values: list[float], step: float) -> None:
    given_values = np.array(values)
    out = rounded(given_values, step)
    unit = 10.0 ** -math.floor(-math.log10(step) + 1e-9)
    assert step * (1 - 1e-6) <= unit <= 10 * step
    assert np.abs(out / unit - np.round(out / unit)).max() < 1e-3
    assert np.abs(out - given_values).max() <= unit / 2 * (1 + 1e-6) + 1e-9
    assert not np.signbit(out[out == 0]).any()


@given(st.floats(1e-12, 1e-2), st.integers(1, 100), st.integers(1, 10**6), st.integers(30, 128))
def test_flooding_s_size_is_the_documented_one_and_bounds_what_is_learnt(
    error: float, scores: int, queries: int, bits: int
) -> None:
    flooding = Flooding(error, scores, queries, bits)
    # sigma = sqrt(12 tau) 2^(s/2) ct.t, for a vector whose norm is at most error * sqrt(scores).
    assert flooding.deviation == pytest.approx(math.sqrt(12 * queries) * 2 ** (bits / 2) * error * math.sqrt(scores))
    assert flooding.divergence == pytest.approx(2.0**-bits / 24)
    assert flooding.advantage <= 2 ** (-bits / 2) / math.sqrt(48) * (1 + 1e-9)
    assert 10.0**-flooding.digits <= flooding.deviation * (1 + 1e-9)


def test_the_divergence_is_that_of_shifted_normals() -> None:
    """KL(N(m, s^2) || N(0, s^2)), integrated numerically, against the formula for one image of one score."""
    flooding = Flooding(1e-4, 1, 1)
    deviation, shift = flooding.deviation, flooding.error
    x = np.linspace(-12 * deviation, 12 * deviation, 400_001)
    density = np.exp(-((x - shift) ** 2) / (2 * deviation**2)) / (deviation * math.sqrt(2 * math.pi))
    log_ratio = (x**2 - (x - shift) ** 2) / (2 * deviation**2)
    assert float((density * log_ratio).sum() * (x[1] - x[0])) == pytest.approx(flooding.divergence, rel=1e-3)


def test_flooded_scores_have_the_noise_that_was_promised() -> None:
    flooding = Flooding(1e-9, 4, 5000)
    raw = np.random.default_rng(5).uniform(-3, 3, (5000, 4))
    noise = Scores(raw, 1e-9, (), ()).shared(flooding) - raw
    # The deviation of a sample of n normals lies within 5 / sqrt(2 n) of the true one but for one case in a million.
    assert noise.std() / flooding.deviation == pytest.approx(1, abs=5 / math.sqrt(2 * noise.size) + 0.01)
    assert abs(noise.mean()) < 5 * flooding.deviation / math.sqrt(noise.size)
    assert np.abs(noise).max() <= flooding.reach
    assert abs(np.corrcoef(noise[:-1, 0], noise[1:, 0])[0, 1]) < 5 / math.sqrt(5000)


def test_noise_is_fresh_at_every_call() -> None:
    scores = Scores(np.zeros((1, 3)), 1e-9, (), ())
    flooding = scores.flooding(queries=10)
    assert not np.array_equal(scores.shared(flooding), scores.shared(flooding))


def test_a_plan_that_cannot_carry_the_noise_is_refused_and_the_one_that_could_is_named() -> None:
    flooding = Flooding(1e-3, 2, 100)
    with pytest.raises(ParameterError, match=r"--precision \de-\d\d") as refused:
        flooding.check(0.05)
    named = float(str(refused.value).split("--precision ")[1].split("'")[0])
    Flooding(named, 2, 100).check(0.05)


@pytest.mark.parametrize(
    "wrong", [{"error": 0.0}, {"error": math.inf}, {"scores": 0}, {"queries": 0}, {"bits": 29}, {"bits": 129}]
)
def test_settings_that_protect_nothing_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ParameterError):
        Flooding(**{"error": 1e-6, "scores": 2, "queries": 1, "bits": 30, **wrong})


def test_more_images_than_the_noise_was_made_for_are_not_shared() -> None:
    with pytest.raises(ShapeError):
        Flooding(1e-6, 2, 3).apply(np.zeros((4, 2)))
    with pytest.raises(ShapeError):
        Flooding(1e-6, 2, 3).apply(np.zeros((1, 3)))


def test_shared_images_are_counted_over_a_key_s_whole_life(tmp_path: Path) -> None:
    key = tmp_path / "hospital.key"
    assert count(key, 3, 10) == 7
    assert count(key, 7, 10) == 0
    with pytest.raises(UsageError, match="10 of 10"):
        count(key, 1, 10)
    with pytest.raises(UsageError, match="made for 10"):
        count(key, 0, 1000)
    (tmp_path / "hospital.key.shared").write_text("[]")
    with pytest.raises(NotThisFormat):
        count(key, 1, 10)
