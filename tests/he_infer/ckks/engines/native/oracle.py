"""Comparison of SEAL and the native engine with SEAL's digits: same keys, same ciphertexts, every residue compared."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from he_infer.ckks.engines.native.engine import NativeEngine
from he_infer.ckks.engines.native.expanded import read_out
from he_infer.ckks.engines.native.kernels.entry_points import Kernels
from he_infer.ckks.engines.native.kernels.ring import internal_places
from he_infer.ckks.engines.protocol import EvaluationKeys, PlainValue, Value
from he_infer.ckks.engines.seal import SealEngine, dump
from he_infer.ckks.layouts.ring import conjugation, galois_element
from he_infer.ckks.parameters import Parameters
from he_infer.ckks.seal_format import inflate
from he_infer.client.keys.secret_key import SecretKey

STEPS = (1, 3, 64)


@dataclass
class Pair:
    """The same value on both engines."""

    seal: Value
    native: Value


@dataclass
class Oracle:
    parameters: Parameters
    kernels: Kernels
    secret: SecretKey = field(init=False)

    def __post_init__(self) -> None:
        size = self.parameters.ring_size
        self.secret = SecretKey.generate(self.parameters)
        self.seal = SealEngine(self.parameters)
        self.native = NativeEngine(self.parameters, self.kernels, centred=False)
        self.centred = NativeEngine(self.parameters, self.kernels)
        elements: tuple[int, ...] = ()
        switches = self.parameters.switches_keys
        if switches:
            elements = (*(galois_element(step, size) for step in STEPS), conjugation(size))
        self.parts = self.secret.keys_for(elements, relinearise=switches, public=True)
        loaded: list[EvaluationKeys] = [
            engine.load_keys(self.parts, elements, relinearise=switches, public=True)
            for engine in (self.seal, self.native, self.centred)
        ]
        self.seal_keys, self.native_keys, self.centred_keys = loaded

    def encrypt(self, slots: np.ndarray, scale: float) -> Pair:
        data = self.secret.encrypt([slots], scale)[0]
        return Pair(self.seal.load(data, scale), self.native.load(data, scale))

    def apply(self, name: str, *pairs: Pair, **options: Any) -> Pair:
        """Run an operation of the protocol on both engines; `keys` are passed if it takes them."""
        keyed = name in ("rotate", "conjugate", "square", "multiply", "refresh")
        results = []
        for engine, keys, values in (
            (self.seal, self.seal_keys, [pair.seal for pair in pairs]),
            (self.native, self.native_keys, [pair.native for pair in pairs]),
        ):
            more = {**options, "keys": keys} if keyed else options
            results.append(getattr(engine, name)(*values, **more))
        return Pair(*results)

    def encode(self, slots: np.ndarray, level: int, scale: float) -> tuple[PlainValue, PlainValue]:
        """Encode with SEAL for both engines: the encoders round differently in the last bit."""
        seal = self.seal.encode(slots, level, scale)
        body = inflate(dump(seal.data), 72 + 8 * (level + 1) * self.parameters.ring_size)
        residues = np.frombuffer(body, dtype="<u8", offset=72).reshape(level + 1, -1)
        return seal, PlainValue(level, scale, self.parameters.id, to_native(self.native, residues))

    def differing(self, pair: Pair) -> int:
        """Count the residues that differ between the two ciphertexts."""
        primes = self.native.primes[: pair.seal.level + 1]
        seal = read_out(self.seal.dump(pair.seal), self.parameters.ring_size, primes)
        return int((seal != self.native.residues(pair.native)).sum())

    def decrypt(self, value: Value) -> np.ndarray:
        return self.secret.decrypt([self.native.dump(value)])[0]


def to_native(engine: NativeEngine, residues: np.ndarray) -> np.ndarray:
    """Convert (rows, N) residues in SEAL's order to the native engine's form."""
    moduli = np.array(engine.primes[: len(residues)], dtype=np.int64)[:, None]
    signed = residues.astype(np.int64)
    centred = np.where(signed > moduli // 2, signed - moduli, signed).astype(np.float64)
    out = np.empty_like(centred)
    out[:, internal_places(engine.size)] = centred
    return out.reshape(-1)
