"""Contract of all engines: the results of operations, and refusals before anything is computed."""

import numpy as np
import pytest

from he_infer.ckks.engines.clear import ClearEngine
from he_infer.ckks.engines.native.engine import NativeEngine
from he_infer.ckks.engines.native.support import find_obstacle
from he_infer.ckks.engines.protocol import Engine, EvaluationKeys, Value
from he_infer.ckks.engines.seal import SealEngine
from he_infer.ckks.layouts.ring import conjugation, galois_element, monomial, to_coefficients, to_slots
from he_infer.ckks.parameters import Parameters
from he_infer.client.keys.secret_key import SecretKey
from he_infer.errors import EngineError, MissingKey, NotThisFormat, ParameterError

PARAMETERS = Parameters(8192, (50, 40, 50))
SCALE = 2.0**36
SLOTS = PARAMETERS.slots


class Both:
    """An engine with keys for a rotation by 3, conjugation and products."""

    def __init__(self, name: str, parameters: Parameters = PARAMETERS, seed: int = 1) -> None:
        self.secret = SecretKey.generate(parameters)
        elements = (galois_element(3, parameters.ring_size), conjugation(parameters.ring_size))
        self.engine: Engine
        if name in ("seal", "native"):
            encrypted = SealEngine(parameters) if name == "seal" else native_engine(parameters)
            self.engine = encrypted
            parts = self.secret.keys_for(elements, relinearise=True, public=True)
            self.keys = encrypted.load_keys(parts, elements, relinearise=True, public=True)
            self.none = encrypted.load_keys({}, (), relinearise=False, public=False)
        else:
            self.engine = ClearEngine(parameters, seed=seed)
            self.keys = EvaluationKeys(parameters.id, frozenset(elements), True, True, {}, 0)
            self.none = EvaluationKeys(parameters.id, frozenset(), False, False, {}, 0)

    def encrypt(self, slots: np.ndarray, scale: float = SCALE) -> Value:
        if isinstance(self.engine, ClearEngine):
            return self.engine.encrypt(slots, scale)
        assert isinstance(self.engine, SealEngine | NativeEngine)
        return self.engine.load(self.secret.encrypt([slots], scale)[0], scale)

    def decrypt(self, value: Value) -> np.ndarray:
        if isinstance(self.engine, ClearEngine):
            return self.engine.decrypt(value)
        assert isinstance(self.engine, SealEngine | NativeEngine)
        return self.secret.decrypt([self.engine.dump(value)])[0]


def native_engine(parameters: Parameters) -> NativeEngine:
    if obstacle := find_obstacle():
        pytest.skip(f"no native engine here: {obstacle}")
    return NativeEngine(parameters)


@pytest.fixture(scope="module", params=["seal", "clear", "native"])
def both(request: pytest.FixtureRequest) -> Both:
    return Both(request.param)


@pytest.fixture(scope="module")
def x() -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.normal(size=SLOTS) + 1j * rng.normal(size=SLOTS)


def close(found: np.ndarray, wanted: np.ndarray) -> bool:
    return bool(np.abs(found - wanted).max() < 1e-3)


def test_operations_give_the_expected_slots(both: Both, x: np.ndarray) -> None:
    engine, value = both.engine, both.encrypt(x)
    assert close(both.decrypt(engine.rotate(value, 3, both.keys)), np.roll(x, -3))
    assert close(both.decrypt(engine.conjugate(value, both.keys)), x.conj())
    assert close(both.decrypt(engine.refresh(value, both.keys)), x)
    assert close(both.decrypt(engine.rescale(engine.square(value, both.keys))), x * x)
    assert close(both.decrypt(engine.multiply(value, both.encrypt(2 * x), both.keys)), 2 * x * x)
    assert close(both.decrypt(engine.drop(value, 0)), x)
    weights = engine.encode(x[::-1].copy(), 1, 2.0**30)
    twice = engine.encode_constant(2.0, 1, 2.0**30)
    assert close(both.decrypt(engine.dot([value, value], [weights, twice])), x * x[::-1] + 2 * x)
    assert close(both.decrypt(engine.add_plain(value, engine.encode(x, 1, SCALE))), 2 * x)


def test_levels_and_scales_are_tracked(both: Both, x: np.ndarray) -> None:
    engine = both.engine
    square = engine.rescale(engine.square(both.encrypt(x), both.keys))
    assert (square.level, square.scale) == (0, SCALE**2 / engine.primes[1])


def test_values_that_do_not_fit_are_refused(both: Both, x: np.ndarray) -> None:
    engine, value = both.engine, both.encrypt(x)
    low = engine.drop(value, 0)
    plain = engine.encode(x, 1, 2.0**20)
    other = Value(value.level, value.scale, "another id", value.data)
    refused = [
        (lambda: engine.add(value, low), "level 1 and 0"),
        (lambda: engine.add(value, both.encrypt(x, 2.0**30)), "cannot be added"),
        (lambda: engine.add(value, other), "other parameters"),
        (lambda: engine.dot([low], [plain]), "level 0 and 1"),
        (lambda: engine.dot([value], []), "in pairs"),
        (lambda: engine.multiply_plain(value, engine.encode(x, 1, 2.0**60)), "does not fit"),
        (lambda: engine.multiply(low, low, both.keys), "does not fit"),
        (lambda: engine.add_plain(value, plain), "cannot be added"),
        (lambda: engine.rotate(value, 5, both.keys), "no rotation by 5"),
        (lambda: engine.conjugate(value, both.none), "no conjugation"),
        (lambda: engine.square(value, both.none), "no relinearisation key"),
        (lambda: engine.refresh(value, both.none), "no public key"),
        (lambda: engine.rescale(low), "level 0 cannot be rescaled"),
        (lambda: engine.drop(low, 1), "cannot be dropped"),
        (lambda: engine.encode(x[:-1], 0, SCALE), "cannot be encoded"),
        (lambda: engine.encode(x, 2, SCALE), "no level 2"),
    ]
    for run, message in refused:
        with pytest.raises(EngineError, match=message):
            run()


def test_slots_and_coefficients_are_one_ring() -> None:
    rng = np.random.default_rng(2)
    p, q = rng.normal(size=(2, 64))
    product = np.convolve(p, q)
    wrapped = product[:64] - np.append(product[64:], 0)
    assert np.allclose(to_coefficients(to_slots(p) * to_slots(q)), wrapped)
    assert np.allclose(to_coefficients(to_slots(p) * monomial(5, 64)), np.append(-p[-5:], p[:-5]))


@pytest.mark.parametrize(
    ("size", "bits", "message"),
    [
        (4096, (60, 49), "109 bits at N = 4096"),
        (2048, (54,), "at most 53"),
        (1024, (25,), "no security budget"),
        (8192, (), "at least one prime"),
        (8192, (61, 40), "20 to 60"),
    ],
)
def test_parameters_beyond_the_budget_are_refused(size: int, bits: tuple[int, ...], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        Parameters(size, bits)


def test_keys_of_another_plan_are_refused() -> None:
    secret, engine = SecretKey.generate(PARAMETERS), SealEngine(PARAMETERS)
    three, five = galois_element(3, 8192), galois_element(5, 8192)
    parts = secret.keys_for([three], relinearise=False, public=False)
    with pytest.raises(NotThisFormat, match="There is a key where the plan has none"):
        engine.load_keys(parts, (five,), relinearise=False)
    with pytest.raises(MissingKey, match="'public'"):
        engine.load_keys(parts, (three,), relinearise=False, public=True)


@pytest.mark.parametrize("name", ["seal", "clear"])
def test_key_switches_err_most_in_the_first_slot(name: str) -> None:
    """SEAL's digits are not centred: their common mean is large in slots whose root is near one."""
    first, others = [], []
    for seed in range(12):  # one key a seed: this error depends on the key
        engine = Both(name, Parameters(8192, (60, 60, 60)), seed)
        value = engine.encrypt(np.zeros(SLOTS))
        error = engine.decrypt(engine.engine.rotate(value, 3, engine.keys)) - engine.decrypt(value)
        first.append(float(np.abs(error[0])))
        others.append(float(np.median(np.abs(error))))
    ratio = np.sqrt(np.mean(np.square(first))) / np.median(others)
    assert 25 < ratio < 250
