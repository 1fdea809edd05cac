"""Times an encrypted head with OpenFHE's own Python bindings: `PYTHON -m peers.openfhe_peer DATA.npz`."""

import os
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

os.environ["OMP_NUM_THREADS"] = "1"  # read as the library is loaded
import numpy as np
import openfhe

from .head_circuit import HeadCircuit, Vector
from .serving import serve


class _Settings(NamedTuple):
    size: int
    depth: int
    first_bits: int
    bits: int
    """Bits of each prime but the first, and of the scale."""
    technique: str
    """Key switching technique. "BV" has no special prime, so that a smaller ring is enough."""
    digit_bits: int
    digits: int
    babies: int


_SETTINGS = {1: _Settings(4096, 1, 57, 47, "BV", 19, 0, 2), 2: _Settings(8192, 3, 46, 36, "HYBRID", 0, 4, 4)}
"""Settings by number of layers: the fastest that were found with errors below 1e-3."""


class OpenfheScheme:
    """The operations in OpenFHE, which decomposes a vector once for several rotations of it."""

    def __init__(self, layers: int) -> None:
        chosen = _SETTINGS[layers]
        settings = openfhe.CCParamsCKKSRNS()
        settings.SetSecurityLevel(openfhe.SecurityLevel.HEStd_128_classic)  # refuses what is less
        settings.SetSecretKeyDist(openfhe.SecretKeyDist.UNIFORM_TERNARY)
        settings.SetScalingTechnique(openfhe.ScalingTechnique.FIXEDMANUAL)
        settings.SetRingDim(chosen.size)
        settings.SetMultiplicativeDepth(chosen.depth)
        settings.SetScalingModSize(chosen.bits)
        settings.SetFirstModSize(chosen.first_bits)
        settings.SetKeySwitchTechnique(getattr(openfhe.KeySwitchTechnique, chosen.technique))
        settings.SetDigitSize(chosen.digit_bits)
        settings.SetNumLargeDigits(chosen.digits)
        self._context = openfhe.GenCryptoContext(settings)
        for feature in ("PKE", "KEYSWITCH", "LEVELEDSHE"):
            self._context.Enable(getattr(openfhe.PKESchemeFeature, feature))
        self.slots = chosen.size // 2
        self.babies = chosen.babies
        primes = [chosen.first_bits] + [chosen.bits] * chosen.depth
        self.parameters = f"N = {chosen.size}, {primes}, {chosen.technique}"
        self._order = self._context.GetCyclotomicOrder()

    def make_keys(self, steps: Sequence[int]) -> None:
        self._keys = self._context.KeyGen()
        self._context.EvalMultKeyGen(self._keys.secretKey)
        self._context.EvalRotateKeyGen(self._keys.secretKey, list(steps))

    def encrypt(self, values: Vector) -> Any:
        return self._context.Encrypt(self._keys.publicKey, self._context.MakeCKKSPackedPlaintext(values.tolist()))

    def decrypt(self, value: Any) -> Vector:
        plain = self._context.Decrypt(value, self._keys.secretKey)
        plain.SetLength(self.slots)
        return np.array(plain.GetRealPackedValue())

    def encode_weights(self, values: Vector, beside: Any) -> Any:
        return self._context.MakeCKKSPackedPlaintext(values.tolist(), 1, beside.GetLevel())

    def encode_biases(self, values: Vector, beside: Any) -> Any:
        return self._context.MakeCKKSPackedPlaintext(values.tolist(), beside.GetNoiseScaleDeg(), beside.GetLevel())

    def rotate(self, value: Any, step: int) -> Any:
        return self._context.EvalRotate(value, step)

    def rotate_many(self, value: Any, steps: Iterable[int]) -> list[Any]:
        digits = self._context.EvalFastRotationPrecompute(value)
        return [self._context.EvalFastRotation(value, step, self._order, digits) for step in steps]

    def multiply(self, value: Any, weights: Any) -> Any:
        return self._context.EvalMult(value, weights)

    def add(self, value: Any, other: Any) -> Any:
        return self._context.EvalAdd(value, other)

    def add_biases(self, value: Any, biases: Any) -> Any:
        return self._context.EvalAdd(value, biases)

    def square(self, value: Any) -> Any:
        return self.rescale(self._context.EvalSquare(value))

    def rescale(self, value: Any) -> Any:
        return self._context.Rescale(value)


if __name__ == "__main__":
    serve("openfhe", lambda layers: HeadCircuit(layers, OpenfheScheme(len(layers))))
