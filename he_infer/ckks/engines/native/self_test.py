"""Compares the compiled kernels with Python's integers and with SEAL, before a server trusts them. Needs no secret.

A key switch is a function of residues alone, so random residues test it as well as a client's keys and ciphertexts.
"""

import secrets

import numpy as np
from numpy.typing import NDArray

from he_infer.ckks.engines.native.engine import NativeEngine
from he_infer.ckks.engines.native.kernels.entry_points import Kernels
from he_infer.ckks.engines.native.kernels.execution import INVERT, TRANSFORM
from he_infer.ckks.engines.native.kernels.ring import internal_places, reversed_bits, smallest_root
from he_infer.ckks.engines.seal import SealEngine, shape_of_fresh, shapes_of_keys
from he_infer.ckks.fresh_ciphertext import FreshCiphertext, write_fresh
from he_infer.ckks.key_shapes import GALOIS
from he_infer.ckks.layouts.ring import galois_element
from he_infer.ckks.parameters import Parameters
from he_infer.ckks.planning.message_sizes import SEED_BYTES
from he_infer.ckks.seal_format import (
    CiphertextShape,
    KeySwitchShape,
    wrap,
    write_key_switches,
    write_seeded,
)
from he_infer.errors import EngineError

_PARAMETERS = Parameters(4096, (36, 34, 36))
_STEPS = 3
_SCALE = 2.0**30


def check_kernels(kernels: Kernels) -> None:
    """Run the self-test: some 50 ms.

    Raises:
        EngineError: a result differs; these kernels must not be used.
    """
    check_transforms(NativeEngine(_PARAMETERS, kernels))
    check_key_switch(kernels)


def check_transforms(engine: NativeEngine) -> None:
    """Compare a transform at some places with Python's integers, and transform extreme residues there and back.

    Raises:
        EngineError: a residue differs.
    """
    size, prime = engine.size, engine.primes[0]
    half = prime // 2
    numbers = np.random.default_rng().integers(-half, half + 1, size)
    numbers[: size // 2] = np.where(numbers[: size // 2] < 0, -half, half)
    out = engine.run(TRANSFORM, numbers.astype(np.float64), 1, np.empty(size))
    root = smallest_root(size, prime)
    found = out[internal_places(size)].astype(np.int64)
    for place in (0, 1, size // 2, size - 1):
        point = pow(root, 2 * int(reversed_bits(size)[place]) + 1, prime)
        value = 0
        for number in reversed(numbers.tolist()):
            value = (value * point + number) % prime
        if int(found[place]) % prime != value:
            raise EngineError("The native engine's transform differs from integer arithmetic.")
    back = engine.run(INVERT, out, 1, np.empty(size))
    if (back.astype(np.int64) != numbers).any():
        raise EngineError("The native engine's inverse transform does not restore the transformed residues.")


def check_key_switch(kernels: Kernels, parameters: Parameters = _PARAMETERS) -> None:
    """Rotate and rescale random residues with SEAL and with the kernels, set to SEAL's digits; compare every residue.

    Raises:
        EngineError: a residue differs.
    """
    seal, native = SealEngine(parameters), NativeEngine(parameters, kernels, centred=False)
    element = galois_element(_STEPS, parameters.ring_size)
    shapes = shapes_of_keys(parameters, (element,), relinearise=False, public=False)
    galois = shapes.parts[GALOIS]
    if not isinstance(galois, KeySwitchShape):
        raise EngineError("Galois keys have the shape of a ciphertext.")
    one = galois.ciphertext
    digits = [write_seeded(one, _random_residues(one), secrets.token_bytes(SEED_BYTES)) for _ in range(galois.digits)]
    parts = {GALOIS: wrap(write_key_switches(galois, [digits]))}
    fresh = shape_of_fresh(parameters, _SCALE)
    ciphertext = write_fresh(FreshCiphertext(_random_residues(fresh), secrets.token_bytes(SEED_BYTES)), fresh)
    found: list[NDArray[np.uint64]] = []
    for engine in (seal, native):
        keys = engine.load_keys(parts, (element,), relinearise=False)
        value = engine.rescale(engine.rotate(engine.load(ciphertext, _SCALE), _STEPS, keys))
        found.append(engine.read_polynomials(value))
    if (found[0] != found[1]).any():
        raise EngineError("The native engine's key switch differs from SEAL's.")


def _random_residues(shape: CiphertextShape) -> NDArray[np.uint64]:
    generator = np.random.default_rng()
    return np.stack([generator.integers(0, prime, shape.ring_size, dtype=np.uint64) for prime in shape.primes])
