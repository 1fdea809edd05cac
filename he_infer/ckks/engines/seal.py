"""SEAL through `tenseal.sealapi`: the only module of he_infer that imports tenseal.

The server uses `SealEngine`. The secret key and decryption are in `he_infer.client.keys.secret_key`, which gets the
binding from here, so that a process without the client's code has nothing that decrypts.
"""

import os
import tempfile
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tenseal import sealapi as sealapi

from he_infer.ckks.engines.protocol import Engine, EvaluationKeys, PlainValue, Value
from he_infer.ckks.parameters import Parameters
from he_infer.errors import FormatError, MissingKey, NotThisFormat, SecretKeyRefused, UnsupportedVersion

SEAL_VERSION = (4, 3)
"""Major and minor version in the header of every serialized SEAL object; another minor's bytes are refused."""

_HEADER_BYTES = 16
_MAGIC = b"\x5e\xa1"


@lru_cache(maxsize=8)
def context(parameters: Parameters) -> Any:
    """SEAL's context, which checks the parameters once more against the homomorphic encryption standard."""
    raw = sealapi.EncryptionParameters(sealapi.SCHEME_TYPE.CKKS)
    raw.set_poly_modulus_degree(parameters.ring_size)
    raw.set_coeff_modulus(sealapi.CoeffModulus.Create(parameters.ring_size, list(parameters.modulus_bits)))
    made = sealapi.SEALContext(raw, True, sealapi.SEC_LEVEL_TYPE.TC128)
    if not made.parameters_set():
        raise FormatError(f"SEAL refuses the parameters: {made.parameters_error_message()}")
    return made


def primes(parameters: Parameters) -> tuple[int, ...]:
    """The primes of the chain, special prime last."""
    data = context(parameters).key_context_data()
    return tuple(int(modulus.value()) for modulus in data.parms().coeff_modulus())


def dump(thing: Any) -> bytes:
    """Serialize a SEAL object; SEAL writes files only, so this one lives in memory where the system has such files."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("seal")
        try:
            thing.save(f"/proc/self/fd/{descriptor}")
            return _read_all(descriptor)
        finally:
            os.close(descriptor)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "object"
        thing.save(str(path))
        return path.read_bytes()


def parse(thing: Any, parameters: Parameters, data: bytes) -> Any:
    """Load serialized bytes into a SEAL object of the type wanted, and return it.

    Raises:
        NotThisFormat: not a SEAL object of this type and these parameters.
        UnsupportedVersion: an object of another SEAL version.
    """
    check_header(data)
    load: Callable[[str], None] = lambda path: thing.load(context(parameters), path)  # noqa: E731
    try:
        if hasattr(os, "memfd_create"):
            descriptor = os.memfd_create("seal")
            try:
                os.write(descriptor, data)
                load(f"/proc/self/fd/{descriptor}")
            finally:
                os.close(descriptor)
        else:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "object"
                path.write_bytes(data)
                load(str(path))
    except (RuntimeError, ValueError, IndexError) as error:
        raise NotThisFormat("The bytes are not a SEAL object of the kind and parameters expected here.") from error
    return thing


def check_header(data: bytes) -> None:
    """Check SEAL's own 16-byte header: magic, version, size."""
    if len(data) < _HEADER_BYTES or data[:2] != _MAGIC:
        raise NotThisFormat("The bytes do not begin as a SEAL object does.")
    if (data[3], data[4]) != SEAL_VERSION:
        raise UnsupportedVersion(
            f"The bytes were written by SEAL {data[3]}.{data[4]}; this release reads "
            f"{SEAL_VERSION[0]}.{SEAL_VERSION[1]}."
        )
    if int.from_bytes(data[8:16], "little") != len(data):
        raise NotThisFormat("The SEAL object is cut off, or something follows it.")


class SealEngine(Engine):
    """The protocol on SEAL ciphertexts. It holds no secret key."""

    def __init__(self, parameters: Parameters) -> None:
        super().__init__(parameters, primes(parameters))
        self._context = context(parameters)
        self._evaluator = sealapi.Evaluator(self._context)
        self._encoder = sealapi.CKKSEncoder(self._context)
        self._ids: list[Any] = []
        data = self._context.last_context_data()
        chain = self._context.first_context_data()
        while chain is not None:
            self._ids.insert(0, chain.parms_id())
            chain = chain.next_context_data() if chain.chain_index() > data.chain_index() else None

    def load_keys(
        self, parts: Mapping[str, bytes], elements: tuple[int, ...], relinearise: bool, public: bool = False
    ) -> EvaluationKeys:
        """Parse a client's keys: `galois` for the elements, `relin` and `public` as far as they are needed.

        Raises:
            SecretKeyRefused: a part is a secret key.
            MissingKey: a rotation, the relinearisation key or the public key is missing.
            FormatError: see `parse`.
        """
        for data in parts.values():
            self._refuse_secret(data)
        loaded: dict[str, Any] = {}
        if elements:
            if "galois" not in parts:
                raise MissingKey("The evaluation keys lack the part 'galois'.")
            loaded["galois"] = parse(sealapi.GaloisKeys(), self.parameters, parts["galois"])
            if not all(loaded["galois"].has_key(element) for element in elements):
                raise MissingKey("The Galois keys lack a rotation of the plan; they were made for another one.")
        if relinearise:
            if "relin" not in parts:
                raise MissingKey("The evaluation keys lack the part 'relin'.")
            loaded["relin"] = parse(sealapi.RelinKeys(), self.parameters, parts["relin"])
        if public:
            if "public" not in parts:
                raise MissingKey("The evaluation keys lack the part 'public'.")
            key = parse(sealapi.PublicKey(), self.parameters, parts["public"])
            loaded["public"] = sealapi.Encryptor(self._context, key)
        size = sum(len(data) for data in parts.values())
        return EvaluationKeys(self.parameters.id, frozenset(elements), relinearise, public, loaded, size)

    def load(self, data: bytes, scale: float) -> Value:
        """Parse a fresh ciphertext.

        Raises:
            FormatError: not a ciphertext of these parameters, of another scale or level, or a transparent one.
        """
        ciphertext = parse(sealapi.Ciphertext(), self.parameters, data)
        if list(ciphertext.parms_id()) != list(self._ids[-1]) or ciphertext.size() != 2:
            raise NotThisFormat("The ciphertext is not a fresh one at the top of the modulus chain.")
        if abs(ciphertext.scale / scale - 1.0) > 1e-9:
            raise NotThisFormat("The ciphertext's scale is not the plan's.")
        if ciphertext.is_transparent():
            raise NotThisFormat("The ciphertext is transparent: it encrypts nothing.")
        return Value(self.parameters.levels, float(ciphertext.scale), self.parameters.id, ciphertext)

    def size_of(self, plain: PlainValue) -> int:
        """Bytes of memory allocated for an encoded vector."""
        return 8 * int(plain.data.capacity())

    def dump(self, value: Value) -> bytes:
        """Serialize a ciphertext."""
        return dump(value.data)

    def _refuse_secret(self, data: bytes) -> None:
        try:
            parse(sealapi.SecretKey(), self.parameters, data)
        except FormatError:
            return
        raise SecretKeyRefused("A secret key was sent; it was discarded. Never send one: make new keys.")

    def _encode(self, slots: NDArray[np.generic], level: int, scale: float) -> Any:
        plain = sealapi.Plaintext()
        self._encoder.encode(slots.tolist(), self._ids[level], scale, plain)
        return plain

    def _encode_constant(self, number: float, level: int, scale: float) -> Any:
        plain = sealapi.Plaintext()
        self._encoder.encode(number, self._ids[level], scale, plain)
        return plain

    def _dot(self, values: list[Any], plains: list[Any]) -> Any:
        total, product = sealapi.Ciphertext(), sealapi.Ciphertext()
        self._evaluator.multiply_plain(values[0], plains[0], total)
        for value, plain in zip(values[1:], plains[1:], strict=True):
            self._evaluator.multiply_plain(value, plain, product)
            product.scale = total.scale
            self._evaluator.add_inplace(total, product)
        return total

    def _add(self, left: Any, right: Any) -> Any:
        right.scale = left.scale
        out = sealapi.Ciphertext()
        self._evaluator.add(left, right, out)
        return out

    def _add_plain(self, value: Any, plain: Any) -> Any:
        value.scale = plain.scale
        out = sealapi.Ciphertext()
        self._evaluator.add_plain(value, plain, out)
        return out

    def _rotate(self, value: Any, steps: int, keys: EvaluationKeys) -> Any:
        out = sealapi.Ciphertext()
        self._evaluator.rotate_vector(value, steps, keys.data["galois"], out)
        return out

    def _conjugate(self, value: Any, keys: EvaluationKeys) -> Any:
        out = sealapi.Ciphertext()
        self._evaluator.complex_conjugate(value, keys.data["galois"], out)
        return out

    def _multiply(self, left: Any, right: Any, keys: EvaluationKeys) -> Any:
        out = sealapi.Ciphertext()
        if left is right:
            self._evaluator.square(left, out)
        else:
            self._evaluator.multiply(left, right, out)
        self._evaluator.relinearize_inplace(out, keys.data["relin"])
        return out

    def _refresh(self, value: Any, level: int, keys: EvaluationKeys) -> Any:
        zero = sealapi.Ciphertext()
        keys.data["public"].encrypt_zero(self._ids[level], zero)
        return self._add(value, zero)

    def _rescale(self, value: Any) -> Any:
        out = sealapi.Ciphertext()
        self._evaluator.rescale_to_next(value, out)
        return out

    def _drop(self, value: Any, level: int) -> Any:
        out = sealapi.Ciphertext()
        self._evaluator.mod_switch_to(value, self._ids[level], out)
        return out


def _read_all(descriptor: int) -> bytes:
    os.lseek(descriptor, 0, os.SEEK_SET)
    with os.fdopen(os.dup(descriptor), "rb") as file:
        return file.read()
