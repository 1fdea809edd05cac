"""A head under Orion v2, a compiler on Lattigo: `PYTHON -m peers.orion_peer DATA.npz`."""

import os
from collections.abc import Sequence

os.environ["GOMAXPROCS"] = "1"  # read as the libraries are loaded
import numpy as np
import orion_compiler.nn as on
import torch
from lattigo import ckks, rlwe
from orion_compiler import CKKSParams, Compiler
from orion_evaluator import Evaluator, Model

from .head_circuit import Layer, Vector
from .serving import serve

_CHAINS = {1: (12, (38, 33), (37,), 33), 2: (13, (46, 40, 40, 40), (46,), 40)}
"""By the number of layers: logarithm of the ring, primes, special primes, logarithm of the scale."""


class OrionHead:
    """Compiled by Orion, which chooses the layout; evaluated from bytes to bytes, as its interface has it."""

    def __init__(self, layers: Sequence[Layer]) -> None:
        size, primes, special, scale = _CHAINS[len(layers)]
        weight = (
            2 << size
        )  # of the secret, a uniform ternary one's: Orion's own is sparse, outside the standard's table
        settings = CKKSParams(logn=size, logq=primes, logp=special, log_default_scale=scale, h=weight // 3)
        compiler = Compiler(_make_network(layers), settings)
        compiler.fit(torch.randn(1, layers[0][0].shape[1]))
        self._model = Model.load(compiler.compile().to_bytes())
        found, manifest, self._level = self._model.client_params()
        parameters = ckks.Parameters.from_dict(found)
        maker = rlwe.KeyGenerator(parameters)
        secret = maker.gen_secret_key()
        turns = [maker.gen_galois_key(secret, element) for element in manifest["galois_elements"]]
        square = maker.gen_relin_key(secret) if manifest["needs_rlk"] else None
        keys = rlwe.MemEvaluationKeySet(square, turns).marshal_binary()
        self._encoder = ckks.Encoder(parameters)
        self._encryptor = rlwe.Encryptor(parameters, maker.gen_public_key(secret))
        self._decryptor = rlwe.Decryptor(parameters, secret)
        self._evaluator = Evaluator(found, keys)
        self._slots, self._scale = parameters.max_slots(), parameters.default_scale()
        self._outputs = len(layers[-1][0])
        self.parameters = f"N = {1 << size} (real), {[*primes, *special]}, {len(turns)} keys"

    def encrypt(self, features: Vector) -> list[bytes]:
        padded = np.pad(features, (0, self._slots - len(features))).tolist()
        plain = self._encoder.encode(padded, self._level, self._scale)
        return [self._encryptor.encrypt_new(plain).marshal_binary()]

    def evaluate(self, request: list[bytes]) -> list[bytes]:
        answer: list[bytes] = self._evaluator.forward(self._model, request)
        return answer

    def decrypt(self, answer: list[bytes]) -> Vector:
        plain = self._decryptor.decrypt_new(rlwe.Ciphertext.unmarshal_binary(answer[0]))
        return np.array(self._encoder.decode(plain, self._slots))[: self._outputs]


def _make_network(layers: Sequence[Layer]) -> torch.nn.Sequential:
    first, *others = [_make_linear(*layer) for layer in layers]
    return torch.nn.Sequential(first, *(part for layer in others for part in (on.Quad(), layer)))


def _make_linear(weights: Vector, biases: Vector) -> on.Linear:
    layer = on.Linear(weights.shape[1], weights.shape[0])
    layer.weight.data, layer.bias.data = torch.tensor(weights).float(), torch.tensor(biases).float()
    return layer


if __name__ == "__main__":
    serve("orion-v2-evaluator", OrionHead)
