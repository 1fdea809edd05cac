"""The engine's protocol on compiled kernels. It holds no secret key."""

from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from he_infer.ckks.engines.native.code_cache import load_kernels
from he_infer.ckks.engines.native.expanded import write_out
from he_infer.ckks.engines.native.kernels import packing
from he_infer.ckks.engines.native.kernels.drawing import count_zero_bytes, random_bytes
from he_infer.ckks.engines.native.kernels.entry_points import Kernels
from he_infer.ckks.engines.native.kernels.execution import (
    ADD,
    ADD_ENCODED,
    ADD_ZERO,
    DROP,
    INVERT,
    MULTIPLY,
    RESCALE,
    ROTATE,
    SUM_PRODUCTS,
    TRANSFORM,
)
from he_infer.ckks.engines.native.kernels.ring import Doubles, build_ring, galois_places, internal_places
from he_infer.ckks.engines.native.kernels.scratch import make_scratch
from he_infer.ckks.engines.native.kernels.seeds import WORKING_WORDS, Bytes
from he_infer.ckks.engines.protocol import Engine, EvaluationKeys, PlainValue, Value
from he_infer.ckks.engines.seal import primes, read_keys, shape_of_fresh, shapes_of_keys
from he_infer.ckks.fresh_ciphertext import MAGIC, check_fresh
from he_infer.ckks.key_shapes import GALOIS, PUBLIC, RELIN
from he_infer.ckks.layouts.ring import conjugation, galois_element, to_coefficients
from he_infer.ckks.parameters import Parameters
from he_infer.ckks.planning.message_sizes import SEED_BYTES, count_fresh_bytes
from he_infer.ckks.planning.order import Digits
from he_infer.ckks.seal_format import CiphertextShape, Seeded, find_ciphertext, find_keys
from he_infer.errors import NotThisFormat

_EXACT = 2.0**53
_NOTHING = np.zeros(1)
_NO_TERMS = np.zeros((1, 3), dtype=np.int64)
_NO_PLACES = np.zeros((1, 1), dtype=np.int32)


class NativeEngine(Engine):
    """The protocol on float64 residues. One thread at a time: it has one set of working memory.

    A value's data are (2, level + 1, N) float64 in one flat array, transformed (order: see `ring`); an encoded vector's
    are (level + 1, N), or (level + 1,) where all slots hold one number.

    Args:
        parameters: ring size and chain, with primes of at most 50 bits.
        kernels: compiled code; by default from the user's own folder, see `code_cache`.
        centred: whether the digits of key switches lie between -p/2 and p/2; False: between 0 and p, as in SEAL, so
            that every residue equals SEAL's.

    Raises:
        ParameterError: a prime has more than 50 bits.
    """

    def __init__(self, parameters: Parameters, kernels: Kernels | None = None, *, centred: bool = True) -> None:
        super().__init__(parameters, primes(parameters))
        self.centred = centred
        self.digits = Digits.CENTRED if centred else Digits.POSITIVE
        self.kernels = kernels or load_kernels()
        self.size = parameters.ring_size
        self.ring = build_ring(self.size, self.primes)
        self.scratch = make_scratch(self.size, parameters.levels + 1)
        self.words = np.empty(self.size + WORKING_WORDS, dtype=np.uint64)
        self._fresh = shape_of_fresh(parameters, 1.0)
        self.fresh_bytes = count_fresh_bytes(self.size, tuple(prime.bit_length() for prime in self._fresh.primes))
        self._bits = np.array([prime.bit_length() for prime in self.primes], dtype=np.int64)
        self._seal_bits = np.full(len(self.primes), packing.SEAL_BITS, dtype=np.int64)

    def load_keys(
        self, parts: Mapping[str, bytes], elements: tuple[int, ...], relinearise: bool, public: bool = False
    ) -> EvaluationKeys:
        """Parse a client's keys: `galois` for exactly the elements, `relin` and `public` if they are needed.

        All keys are stored in one array: `data` has it as `block`, with `offsets` by element or name.

        Raises:
            SecretKeyRefused: a part is a secret key.
            MissingKey: a part is missing.
            KeyProblem: a part is not needed.
            FormatError: a part is not exactly of its shape; see `KeyShapes`.
        """
        shapes = shapes_of_keys(self.parameters, elements, relinearise=relinearise, public=public)
        bodies = read_keys(self.parameters, shapes, parts)
        offsets = self.key_offsets(elements, relinearise=relinearise, public=public)
        chain = len(self.primes)
        step = 2 * chain * self.size
        block = np.empty(max(1, step * ((chain - 1) * (len(elements) + relinearise) + public)))
        for name, body in bodies.items():
            shape = shapes.parts[name]
            if isinstance(shape, CiphertextShape):
                self._open_key(find_ciphertext(body, shape), block, offsets[PUBLIC])
                continue
            for place, digits in find_keys(body, shape).items():
                start = offsets[2 * place + 1 if name == GALOIS else RELIN]
                for index, digit in enumerate(digits):
                    self._open_key(digit, block, start + index * step)
        data = {"block": block, "offsets": offsets}
        size = sum(shapes.sizes.values())
        return EvaluationKeys(self.parameters.id, frozenset(elements), relinearise, public, data, size)

    def key_offsets(self, elements: Collection[int], *, relinearise: bool, public: bool) -> dict[int | str, int]:
        """Return each key's offset in a client's block: rotations by element, then relinearisation, then public."""
        key = 2 * (len(self.primes) - 1) * len(self.primes) * self.size
        names: list[int | str] = [*sorted(elements), *[RELIN] * relinearise, *[PUBLIC] * public]
        return {name: index * key for index, name in enumerate(names)}

    def load(self, data: bytes, scale: float) -> Value:
        """Parse a request's ciphertext, see `fresh_ciphertext`. Its scale is not sent: the caller states it.

        Raises:
            FormatError: not a ciphertext of these parameters.
        """
        self.check_fresh(data)  # before memory is allocated
        out = np.empty(2 * (self.parameters.levels + 1) * self.size)
        self.open_fresh(np.frombuffer(data, dtype=np.uint8), 0, 1, out, 0)
        return Value(self.parameters.levels, scale, self.parameters.id, out)

    def check_fresh(self, data: bytes) -> None:
        """Check a request's ciphertext by its beginning and length.

        Raises:
            FormatError: not a ciphertext of these parameters.
        """
        if len(data) != self.fresh_bytes or not data.startswith(MAGIC):
            check_fresh(data, self._fresh)

    def open_fresh(self, packed: Bytes, first: int, count: int, out: Doubles, step: int) -> None:
        """Parse ciphertexts that lie one after another, and have been checked, from the one at index `first`.

        Each becomes (2, levels + 1, N) elements of `out`, `step` elements after the one before.

        Raises:
            NotThisFormat: a residue is not below its prime.
        """
        begin = first * self.fresh_bytes
        seeds_at = begin + self.fresh_bytes - SEED_BYTES
        rows = len(self._fresh.primes)
        self._open(packed, begin + len(MAGIC), self._bits, packed, seeds_at, count, rows, out, 0, step)

    def dump(self, value: Value) -> bytes:
        """Serialize a ciphertext as a SEAL object, not compressed."""
        return write_out(self.residues(value), value.scale, self.primes[: value.level + 1])

    def size_of(self, plain: PlainValue) -> int:
        """Return the bytes of memory that an encoded vector takes."""
        return int(plain.data.nbytes)

    def residues(self, value: Value) -> NDArray[np.uint64]:
        """Return (2, level + 1, N) residues of a ciphertext in SEAL's order, between 0 and p."""
        rows = value.level + 1
        ordered = value.data.reshape(2, rows, self.size)[..., internal_places(self.size)].astype(np.int64)
        moduli = np.array(self.primes[:rows], dtype=np.int64)[:, None]
        residues: NDArray[np.uint64] = np.where(ordered < 0, ordered + moduli, ordered).astype(np.uint64)
        return residues

    def _open_key(self, seeded: Seeded, out: Doubles, to: int) -> None:
        body, seed = (np.frombuffer(data, dtype=np.uint8) for data in (seeded.body, seeded.seed))
        self._open(body, seeded.at, self._seal_bits, seed, 0, 1, len(self.primes), out, to, 0)

    def _open(
        self,
        data: Bytes,
        at: int,
        bits: NDArray[np.int64],
        seeds: Bytes,
        seeds_at: int,
        count: int,
        rows: int,
        out: Doubles,
        to: int,
        step: int,
    ) -> None:
        """Write ciphertexts (2, rows, N) to `out`, from their first polynomials and the others' seeds.

        Raises:
            NotThisFormat: a residue is not below its prime.
        """
        stride = self.fresh_bytes
        opened = self.kernels.open_seeded(
            data, at, stride, bits, seeds, seeds_at, count, rows, self.size, out, to, step, self.words, self.ring
        )
        if not opened:
            raise NotThisFormat("The ciphertext has a residue that is not below its prime.")

    def run(
        self,
        operation: int,
        left: Doubles,
        rows: int,
        out: Doubles,
        *,
        right: Doubles = _NOTHING,
        plains: Doubles = _NOTHING,
        keys: Doubles = _NOTHING,
        key: int = 0,
        second: int = 0,
        first: int = 0,
        last: int = 0,
        terms: NDArray[np.int64] = _NO_TERMS,
        places: NDArray[np.int32] = _NO_PLACES,
    ) -> Doubles:
        """Run one instruction of `kernels.execution` on separate arrays; returns `out`."""
        code = np.array([[operation, 0, 0, second, rows, key, first, last]], dtype=np.int64)
        self.kernels.execute(
            code,
            terms,
            left,
            right,
            out,
            plains,
            keys,
            places,
            self.size,
            self.ring,
            self.scratch,
            self.centred,
        )
        return out

    def _rows(self, data: Doubles) -> int:
        return int(data.size) // (2 * self.size)

    def _encode(self, slots: NDArray[np.generic], level: int, scale: float) -> Doubles:
        rows = level + 1
        whole: Doubles = np.rint(to_coefficients(slots) * scale)
        out = np.empty(rows * self.size)
        if np.abs(whole).max() < _EXACT:
            return self.run(TRANSFORM, whole, rows, out)
        remainders = np.concatenate([np.fmod(whole, prime) for prime in self.ring.primes[:rows]])  # fmod is exact
        return self.run(TRANSFORM, remainders, rows, out, first=self.size)

    def _encode_constant(self, number: float, level: int, scale: float) -> Doubles:
        whole = round(number * scale)
        remainders = [whole % prime for prime in self.primes[: level + 1]]
        return np.array([float(r - p if r > p // 2 else r) for r, p in zip(remainders, self.primes, strict=False)])

    def _dot(self, values: list[Any], plains: list[Any]) -> Doubles:
        out: Doubles = np.empty_like(values[0])
        rows = self._rows(out)
        for index, (value, plain) in enumerate(zip(values, plains, strict=True)):
            terms = np.array([[0, 0, plain.size == rows]], dtype=np.int64)
            self.run(SUM_PRODUCTS, value, rows, out, plains=plain, second=int(index > 0), last=1, terms=terms)
        return out

    def _add(self, left: Any, right: Any) -> Doubles:
        return self.run(ADD, left, self._rows(left), np.empty_like(left), right=right)

    def _add_plain(self, value: Any, plain: Any) -> Doubles:
        rows = self._rows(value)
        return self.run(ADD_ENCODED, value, rows, np.empty_like(value), plains=plain, first=int(plain.size == rows))

    def _rotate(self, value: Any, steps: int, keys: EvaluationKeys) -> Doubles:
        return self._apply(value, galois_element(steps, self.size), keys)

    def _conjugate(self, value: Any, keys: EvaluationKeys) -> Doubles:
        return self._apply(value, conjugation(self.size), keys)

    def _apply(self, value: Any, element: int, keys: EvaluationKeys) -> Doubles:
        places = galois_places(element, self.size)[None]
        block, key = keys.data["block"], keys.data["offsets"][element]
        return self.run(ROTATE, value, self._rows(value), np.empty_like(value), keys=block, key=key, places=places)

    def _multiply(self, left: Any, right: Any, keys: EvaluationKeys) -> Doubles:
        block, key = keys.data["block"], keys.data["offsets"][RELIN]
        return self.run(MULTIPLY, left, self._rows(left), np.empty_like(left), right=right, keys=block, key=key)

    def _refresh(self, value: Any, level: int, keys: EvaluationKeys) -> Doubles:
        samples = self.draw_zeros(1)
        block, key = keys.data["block"], keys.data["offsets"][PUBLIC]
        return self.run(ADD_ZERO, value, level + 1, np.empty_like(value), right=samples, keys=block, key=key)

    def draw_zeros(self, count: int, draw: Callable[[int], Bytes] = random_bytes) -> Doubles:
        """Draw (count * 3 N,) the random polynomials u, e0, e1 of fresh encryptions of zero; see `drawing`."""
        samples = np.empty(count * 3 * self.size)
        while not self.kernels.fill_zeros(draw(count * count_zero_bytes(self.size)), count, self.size, samples):
            pass
        return samples

    def _rescale(self, value: Any) -> Doubles:
        rows = self._rows(value)
        return self.run(RESCALE, value, rows, np.empty(2 * (rows - 1) * self.size))

    def _read_polynomials(self, value: Any) -> NDArray[np.uint64]:
        out = np.empty((2, self.size))
        for coefficients, transformed in zip(out, value.reshape(2, self.size), strict=True):
            self.run(INVERT, transformed, 1, coefficients)
        np.add(out, float(self.primes[0]), out=out, where=out < 0.0)
        return out.astype(np.uint64)

    def _drop(self, value: Any, level: int) -> Doubles:
        return self.run(DROP, value, self._rows(value), np.empty(2 * (level + 1) * self.size), first=level + 1)
