"""Weights come out of an unmasked answer's second polynomial exactly; a fresh encryption of zero prevents it."""

from typing import Any

import numpy as np
import pytest

from experiments.leaks.extraction_ring import divide_in_ring, find_least_root, invert_transform
from he_infer.ckks.engines.seal import context, primes, sealapi
from he_infer.ckks.parameters import Parameters

PARAMETERS = Parameters(4096, (40, 40))
SCALE = 2.0**25


def residues(ciphertext: Any, polynomial: int) -> list[int]:
    """(N,) residues of one polynomial of a ciphertext, modulo the first prime."""
    data, size = ciphertext.dyn_array(), PARAMETERS.ring_size
    start = polynomial * ciphertext.coeff_modulus_size() * size
    return [data.at(start + index) for index in range(size)]


def test_transform_gives_values_at_odd_powers_of_the_root_in_bit_reversed_order() -> None:
    prime, size = 97, 8
    coefficients = [5, 0, 96, 3, 11, 1, 0, 2]
    root = find_least_root(2 * size, prime)
    assert pow(root, size, prime) == prime - 1
    reverse = [int(f"{index:03b}"[::-1], 2) for index in range(size)]
    values = [
        sum(c * pow(root, (2 * place + 1) * power, prime) for power, c in enumerate(coefficients)) % prime
        for place in reverse
    ]
    assert invert_transform(values, prime) == coefficients


@pytest.mark.parametrize("refreshed", [False, True])
def test_one_open_answer_gives_the_weights_and_a_hidden_one_does_not(refreshed: bool) -> None:
    made = context(PARAMETERS)
    generator = sealapi.KeyGenerator(made)
    public = sealapi.PublicKey()
    generator.create_public_key(public)
    encryptor, encoder = sealapi.Encryptor(made, public, generator.secret_key()), sealapi.CKKSEncoder(made)
    evaluator = sealapi.Evaluator(made)
    random = np.random.default_rng(1)
    features, weights = random.normal(size=(2, PARAMETERS.slots))
    plain, encoded = sealapi.Plaintext(), sealapi.Plaintext()
    encoder.encode(features.tolist(), 2.0**10, plain)
    encoder.encode(weights.tolist(), SCALE, encoded)
    request, answer = sealapi.Ciphertext(), sealapi.Ciphertext()
    encryptor.encrypt_symmetric(plain, request)
    evaluator.multiply_plain(request, encoded, answer)
    if refreshed:
        zero = sealapi.Ciphertext()
        encryptor.encrypt_zero(zero)
        zero.scale = answer.scale
        evaluator.add_inplace(answer, zero)
    prime = primes(PARAMETERS)[0]
    found = divide_in_ring(residues(answer, 1), residues(request, 1), prime) / SCALE
    # Slots from coefficients, at the powers 3^s of a root of unity, as SEAL orders them.
    size = PARAMETERS.ring_size
    values = np.fft.ifft(found * np.exp(1j * np.pi * np.arange(size) / size)) * size
    slots = values[[(pow(3, slot, 2 * size) - 1) // 2 for slot in range(size // 2)]].real
    error = float(np.abs(slots - weights).max())
    assert error > 1e3 if refreshed else error < 1e-4
