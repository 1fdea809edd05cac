"""SEAL through `tenseal.sealapi`: the only module of he_infer that imports tenseal.

The server uses `SealEngine`. The secret key and decryption are in `he_infer.client.keys.secret_key`, which gets the
binding from here, so that a process without the client's code has nothing that decrypts.
"""

import os
import struct
import tempfile
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tenseal import sealapi as sealapi

from he_infer.ckks.engines.protocol import Engine, EvaluationKeys, PlainValue, Value
from he_infer.ckks.fresh_ciphertext import read_fresh
from he_infer.ckks.key_shapes import GALOIS, PUBLIC, RELIN, KeyShapes
from he_infer.ckks.parameters import Parameters
from he_infer.ckks.planning.plan import Plan
from he_infer.ckks.seal_format import (
    CiphertextShape,
    check_header,
    inflate,
    state_size,
    wrap,
    write_seeded,
)
from he_infer.errors import FormatError, KeyProblem, NotThisFormat, SecretKeyRefused

_SECRET_KEY_BYTES = 72
"""Bytes of a secret key's body besides its residues: id, count, scale, and the header of its words."""
_EXPANDED_BYTES = 97
"""Bytes of an expanded ciphertext's body before its residues."""


@lru_cache(maxsize=8)
def context(parameters: Parameters) -> Any:
    """Make SEAL's context, which checks the parameters once more against the homomorphic encryption standard."""
    raw = sealapi.EncryptionParameters(sealapi.SCHEME_TYPE.CKKS)
    raw.set_poly_modulus_degree(parameters.ring_size)
    raw.set_coeff_modulus(sealapi.CoeffModulus.Create(parameters.ring_size, list(parameters.modulus_bits)))
    made = sealapi.SEALContext(raw, True, sealapi.SEC_LEVEL_TYPE.TC128)
    if not made.parameters_set():
        raise FormatError(f"SEAL refuses the parameters: {made.parameters_error_message()}")
    return made


def primes(parameters: Parameters) -> tuple[int, ...]:
    """Return the primes of the chain, special prime last."""
    data = context(parameters).key_context_data()
    return tuple(int(modulus.value()) for modulus in data.parms().coeff_modulus())


MEMORY_FOLDER = "HE_INFER_MEMORY_FOLDER"
"""Environment variable: a folder on a RAM disk, for systems that have no files in memory (memfd)."""


def dump(thing: Any, *, secret: bool = False) -> bytes:
    """Serialize a SEAL object. SEAL writes only to files; the file is in memory if the system has such files (memfd).

    Args:
        thing: the object.
        secret: whether its bytes must never touch a disk.

    Raises:
        KeyProblem: the object is secret and the system has neither files in memory nor a folder on a RAM disk.
    """
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("seal")
        try:
            thing.save(f"/proc/self/fd/{descriptor}")
            return _read_all(descriptor)
        finally:
            os.close(descriptor)
    with tempfile.TemporaryDirectory(dir=_find_folder(secret)) as folder:
        path = Path(folder) / "object"
        thing.save(str(path))
        return path.read_bytes()


def parse(thing: Any, parameters: Parameters, data: bytes, *, secret: bool = False) -> Any:
    """Load serialized bytes into a SEAL object of the type wanted, and return it; `secret` as in `dump`.

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
            with tempfile.TemporaryDirectory(dir=_find_folder(secret)) as folder:
                path = Path(folder) / "object"
                path.write_bytes(data)
                load(str(path))
    except (RuntimeError, ValueError, IndexError) as error:
        raise NotThisFormat("The bytes are not a SEAL object of the kind and parameters expected here.") from error
    return thing


def _find_folder(secret: bool) -> str | None:
    """Find a folder for SEAL's temporary file: for secrets one on a RAM disk."""
    if not secret:
        return None
    folder = os.environ.get(MEMORY_FOLDER) or "/dev/shm"  # noqa: S108 - a tmpfs: memory, and the folder made in it is private
    if Path(folder).is_dir():
        return folder
    raise KeyProblem(
        "This system has no files in memory (memfd), and SEAL reads and writes keys as files: the secret key would lie "
        f"on a disk in clear. Make a RAM disk and name a folder on it in {MEMORY_FOLDER}."
    )


def identify(parms_id: Any) -> bytes:
    """Return the 32 bytes of a parameters' id."""
    return struct.pack("<4Q", *(int(word) for word in parms_id))


def shape_of_fresh(parameters: Parameters, scale: float) -> CiphertextShape:
    """Return the shape of a request's ciphertext: seeded, at the top of the chain."""
    data = primes(parameters)[: len(parameters.data_bits)]
    return CiphertextShape(identify(context(parameters).first_parms_id()), parameters.ring_size, data, scale)


def shapes_of_keys(parameters: Parameters, elements: tuple[int, ...], *, relinearise: bool, public: bool) -> KeyShapes:
    """Return the shapes of a key set's parts, for a chain and the operations that need keys."""
    identity = identify(context(parameters).key_parms_id())
    level = CiphertextShape(identity, parameters.ring_size, primes(parameters), 1.0)
    return KeyShapes.build(level, elements=elements, relinearise=relinearise, public=public)


def shapes_for(plan: Plan) -> KeyShapes:
    """Return the shapes of the parts of a plan's key set, with their exact sizes; see `KeyShapes`."""
    return shapes_of_keys(plan.parameters, plan.galois_elements, relinearise=plan.relinearise, public=plan.refreshes)


def read_keys(parameters: Parameters, shapes: KeyShapes, parts: Mapping[str, bytes]) -> dict[str, bytes]:
    """Check a key set's parts and return their bodies; see `KeyShapes.read`.

    Raises:
        SecretKeyRefused: a refused part is a secret key.
    """
    try:
        return shapes.read(parts)
    except (FormatError, KeyProblem):
        for data in parts.values():
            _refuse_secret(parameters, data)
        raise


def _refuse_secret(parameters: Parameters, data: bytes) -> None:
    """Raise if a refused part is a secret key; data of another size are not inflated."""
    size = parameters.ring_size * len(parameters.modulus_bits)
    try:
        if state_size(data) != _SECRET_KEY_BYTES + 8 * size:
            return
        parse(sealapi.SecretKey(), parameters, data)
    except FormatError:
        return
    raise SecretKeyRefused("A secret key was sent; it was discarded. Never send one: make new keys.")


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
        """Parse a client's keys: `galois` for exactly the elements, `relin` and `public` if they are needed.

        Raises:
            SecretKeyRefused: a part is a secret key.
            MissingKey: a part is missing.
            KeyProblem: a part is not needed.
            FormatError: a part is not exactly of its shape; see `KeyShapes`.
        """
        shapes = shapes_of_keys(self.parameters, elements, relinearise=relinearise, public=public)
        bodies = read_keys(self.parameters, shapes, parts)
        loaded: dict[str, Any] = {}
        for name, kind in ((GALOIS, sealapi.GaloisKeys), (RELIN, sealapi.RelinKeys), (PUBLIC, sealapi.PublicKey)):
            if name in bodies:
                loaded[name] = parse(kind(), self.parameters, wrap(bodies[name]))
        if public:
            loaded[PUBLIC] = sealapi.Encryptor(self._context, loaded[PUBLIC])
        return EvaluationKeys(
            self.parameters.id, frozenset(elements), relinearise, public, loaded, sum(shapes.sizes.values())
        )

    def load(self, data: bytes, scale: float) -> Value:
        """Parse a request's ciphertext, see `fresh_ciphertext`. Its scale is not sent: the caller states it.

        Raises:
            FormatError: not a ciphertext of these parameters, or a transparent one.
        """
        shape = shape_of_fresh(self.parameters, scale)
        fresh = read_fresh(data, shape)
        body = write_seeded(shape, fresh.first, fresh.seed)
        ciphertext = parse(sealapi.Ciphertext(), self.parameters, wrap(body))
        if ciphertext.is_transparent():
            raise NotThisFormat("The ciphertext is transparent: it encrypts nothing.")
        return Value(self.parameters.levels, scale, self.parameters.id, ciphertext)

    def size_of(self, plain: PlainValue) -> int:
        """Return the bytes of memory allocated for an encoded vector."""
        return 8 * int(plain.data.capacity())

    def dump(self, value: Value) -> bytes:
        """Serialize a ciphertext."""
        return dump(value.data)

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

    def _read_polynomials(self, value: Any) -> NDArray[np.uint64]:
        plain = sealapi.Ciphertext()
        self._evaluator.transform_from_ntt(value, plain)
        # SEAL's binding reads residues one by one; its serialized form is read at once.
        words = 2 * self.parameters.ring_size
        body = inflate(dump(plain), _EXPANDED_BYTES + 8 * words)
        return np.frombuffer(body, dtype="<u8", count=words, offset=_EXPANDED_BYTES).reshape(2, -1).astype(np.uint64)

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
