"""A head under seal-python, bindings of SEAL: `PYTHON -m peers.seal_python_peer DATA.npz`."""

from collections.abc import Iterable, Sequence
from typing import Any

import seal

from .head_circuit import HeadCircuit, Vector
from .serving import serve

_CHAINS = {1: (4096, [54, 54]), 2: (8192, [58, 58, 40, 58])}
_INPUT_BITS = {1: 23, 2: 40}
_WEIGHT_BITS = {1: {0: 25}, 2: {2: 40, 1: 28}}
"""By the number of layers, then by the primes that are still to be dropped."""


class SealScheme:
    """SEAL's evaluator. It has no cheaper way for several turns of one vector."""

    def __init__(self, layers: int) -> None:
        size, bits = _CHAINS[layers]
        parameters = seal.EncryptionParameters(seal.scheme_type.ckks)
        parameters.set_poly_modulus_degree(size)
        parameters.set_coeff_modulus(seal.CoeffModulus.Create(size, bits))
        self._context = seal.SEALContext(parameters, True, seal.sec_level_type.tc128)
        if not self._context.parameters_set():
            raise ValueError(self._context.parameter_error_message())
        self._input_scale, self._weight_bits = 2.0 ** _INPUT_BITS[layers], _WEIGHT_BITS[layers]
        self._encoder, self._evaluator = seal.CKKSEncoder(self._context), seal.Evaluator(self._context)
        self.slots = size // 2
        self.babies = {1: 1, 2: 4}[layers]  # the first layer's scale is too small for turns of the input
        self.parameters = f"N = {size}, {bits}"

    def make_keys(self, steps: Sequence[int]) -> None:
        maker = seal.KeyGenerator(self._context)
        self._turns = seal.GaloisKeys()
        maker.create_galois_keys(list(steps), self._turns)
        if len(self._weight_bits) > 1:
            self._square_key = maker.create_relin_keys()
        self._encryptor = seal.Encryptor(self._context, maker.secret_key())
        self._decryptor = seal.Decryptor(self._context, maker.secret_key())

    def encrypt(self, values: Vector) -> Any:
        return self._encryptor.encrypt_symmetric(self._encoder.encode(values, self._input_scale))

    def decrypt(self, value: Any) -> Vector:
        slots: Vector = self._encoder.decode(self._decryptor.decrypt(value))
        return slots

    def encode_weights(self, values: Vector, beside: Any) -> Any:
        return self._encode(values, 2.0 ** self._weight_bits[self._level(beside)], beside)

    def encode_biases(self, values: Vector, beside: Any) -> Any:
        return self._encode(values, beside.scale(), beside)

    def _encode(self, values: Vector, scale: float, beside: Any) -> Any:
        plain = self._encoder.encode(values, scale)
        self._evaluator.mod_switch_to_inplace(plain, beside.parms_id())
        return plain

    def _level(self, value: Any) -> int:
        return int(self._context.get_context_data(value.parms_id()).chain_index())

    def rotate(self, value: Any, step: int) -> Any:
        return self._evaluator.rotate_vector(value, step, self._turns)

    def rotate_many(self, value: Any, steps: Iterable[int]) -> list[Any]:
        return [self.rotate(value, step) for step in steps]

    def multiply(self, value: Any, weights: Any) -> Any:
        return self._evaluator.multiply_plain(value, weights)

    def add(self, value: Any, other: Any) -> Any:
        return self._evaluator.add(value, other)

    def add_biases(self, value: Any, biases: Any) -> Any:
        return self._evaluator.add_plain(value, biases)

    def square(self, value: Any) -> Any:
        """Not rescaled: the second layer's product comes before."""
        return self._evaluator.relinearize(self._evaluator.square(value), self._square_key)

    def rescale(self, value: Any) -> Any:
        """Without a prime to drop, the scale stays that of the product."""
        return self._evaluator.rescale_to_next(value) if self._level(value) else value


if __name__ == "__main__":
    serve("seal-python", lambda layers: HeadCircuit(layers, SealScheme(len(layers))))
