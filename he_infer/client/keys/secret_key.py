"""The CKKS secret key: the only code that encrypts under it and decrypts. Client only."""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from he_infer.ckks.answer import OpenedAnswer, read_answer, shift_of_noise
from he_infer.ckks.engines.seal import context, dump, identify, parse, primes, sealapi, shape_of_fresh
from he_infer.ckks.fresh_ciphertext import convert_seeded, write_fresh
from he_infer.ckks.layouts.ring import to_coefficients, to_slots
from he_infer.ckks.parameters import Parameters
from he_infer.ckks.planning.plan import Plan
from he_infer.ckks.planning.scale_walk import walk_scales
from he_infer.ckks.seal_format import wrap, write_expanded
from he_infer.errors import MissingKey, NotThisFormat, ShapeError


class SecretKey:
    """A secret key for one set of parameters."""

    def __init__(self, parameters: Parameters, raw: object) -> None:
        self.parameters = parameters
        self._context = context(parameters)
        self._raw = raw
        self._encryptor = sealapi.Encryptor(self._context, raw)
        self._decryptor = sealapi.Decryptor(self._context, raw)
        self._encoder = sealapi.CKKSEncoder(self._context)

    def __repr__(self) -> str:
        return f"SecretKey({self.parameters})"

    @classmethod
    def generate(cls, parameters: Parameters) -> "SecretKey":
        """Make a new key with SEAL's generator, seeded by the operating system."""
        return cls(parameters, sealapi.KeyGenerator(context(parameters)).secret_key())

    def to_bytes(self) -> bytes:
        """Serialize: ring size, modulus chain, SEAL's bytes. Seal the result before writing it to a file."""
        chain = self.parameters.modulus_bits
        head = self.parameters.ring_size.to_bytes(4, "little") + bytes([len(chain), *chain])
        return head + dump(self._raw, secret=True)

    @classmethod
    def from_bytes(cls, data: bytes) -> "SecretKey":
        """Read the bytes of `to_bytes`."""
        if len(data) < 6:
            raise NotThisFormat("The secret key is cut off. Restore the key file from a backup.")
        end = 5 + data[4]
        parameters = Parameters(int.from_bytes(data[:4], "little"), tuple(data[5:end]))
        return cls(parameters, parse(sealapi.SecretKey(), parameters, data[end:], secret=True))

    def evaluation_keys(self, plan: Plan) -> dict[str, bytes]:
        """Make the plan's Galois, relinearisation and public keys in seeded form; see `keys_for`."""
        if plan.parameters != self.parameters:
            raise MissingKey("The secret key was made for other parameters than the plan's.")
        return self.keys_for(plan.galois_elements, relinearise=plan.relinearise, public=plan.refreshes)

    def keys_for(self, elements: Sequence[int], *, relinearise: bool, public: bool) -> dict[str, bytes]:
        """Make evaluation keys in seeded form: Galois keys of these elements, relinearisation key, public key."""
        generator = sealapi.KeyGenerator(self._context, self._raw)
        parts = {}
        if elements:
            parts["galois"] = dump(generator.create_galois_keys(list(elements)))
        if relinearise:
            parts["relin"] = dump(generator.create_relin_keys())
        if public:
            # A public key is an encryption of zero at the key's level; the seeded form is half the size.
            parts["public"] = dump(self._encryptor.encrypt_zero_symmetric(self._context.key_parms_id()))
        return parts

    def encrypt(self, slots: Sequence[NDArray[np.generic]], scale: float) -> list[bytes]:
        """Encrypt (slots,) vectors, real or complex, at a scale; see `fresh_ciphertext` for the ciphertexts' form."""
        out = []
        shape = shape_of_fresh(self.parameters, scale)
        for vector in slots:
            if vector.shape != (self.parameters.slots,):
                raise ShapeError(f"{vector.shape} numbers; expected ({self.parameters.slots},).")
            plain = sealapi.Plaintext()
            self._encoder.encode(vector.tolist(), scale, plain)
            out.append(write_fresh(convert_seeded(dump(self._encryptor.encrypt_symmetric(plain)), shape), shape))
        return out

    def open_answer(self, plan: Plan, parts: Sequence[bytes]) -> list[OpenedAnswer]:
        """Decrypt an answer: c0 + c1 s modulo 2^bits, for the coefficients of c0 that were sent.

        Args:
            plan: the plan of the request.
            parts: one byte string for each of the plan's answers; see `he_infer.ckks.answer`.

        Returns:
            For each answer the decrypted scores and check values, in units of scores.

        Raises:
            NotThisFormat: the parts are not answers of this plan.
            UnsupportedVersion: the parts have another version.
        """
        if len(parts) != plan.targets:
            raise NotThisFormat(f"The server sent {len(parts)} answers; the plan gives {plan.targets}.")
        chain = primes(plan.parameters)
        bits, prime = plan.answer.bits, chain[0]
        unit = walk_scales(plan, chain).answer_scale * plan.gain
        opened = []
        for target, data in enumerate(parts):
            answer, selection = read_answer(plan, target, data), plan.output.selection(target)
            product = selection.take(self._multiply(answer.second, bits))
            sums = (answer.numbers + product) & np.uint64((1 << bits) - 1)
            residues = _centre(sums, bits) * (prime / 2.0**bits) - shift_of_noise(plan.answer.noise, selection)
            numbers = residues / unit
            opened.append(OpenedAnswer(numbers[: selection.scores], numbers[selection.scores :]))
        return opened

    def _multiply(self, polynomial: NDArray[np.uint64], bits: int) -> NDArray[np.uint64]:
        """Multiply a polynomial modulo 2^bits by the secret: coefficients (N,) modulo 2^64.

        The product is computed through slots in double precision, and long coefficients are split into two halves. All
        sums stay far below 2^53 and are exact, since each coefficient of the secret is -1, 0 or 1.
        """
        total = np.zeros(len(polynomial), dtype=np.int64)
        for shift in range(0, bits, 28):
            half = (polynomial >> np.uint64(shift)) & np.uint64((1 << 28) - 1)
            product = to_coefficients(to_slots(half.astype(np.float64)) * self._slots)
            total += np.rint(product).astype(np.int64) << shift
        return total.view(np.uint64)

    @cached_property
    def _slots(self) -> NDArray[np.complex128]:
        """Slots of the secret, computed by SEAL as the decryption of the ciphertext (0, 1)."""
        level = self._context.last_parms_id()
        size = self.parameters.ring_size
        one = write_expanded(identify(level), np.stack([np.zeros(size), np.ones(size)]).astype(np.uint64), 1.0)
        plain = sealapi.Plaintext()
        self._decryptor.decrypt(parse(sealapi.Ciphertext(), self.parameters, wrap(one)), plain)
        secret = np.rint(to_coefficients(np.array(self._encoder.decode_complex(plain))))
        return to_slots(secret)

    def decrypt(self, parts: Sequence[bytes]) -> list[NDArray[np.complex128]]:
        """Decrypt ciphertexts to (slots,) complex vectors.

        Raises:
            NotThisFormat: a part is no ciphertext of these parameters, or is transparent: it could be made without any
                key.
        """
        out = []
        for data in parts:
            ciphertext = parse(sealapi.Ciphertext(), self.parameters, data)
            if ciphertext.is_transparent():
                raise NotThisFormat("The ciphertext is transparent: it was computed from nothing that was sent.")
            plain = sealapi.Plaintext()
            try:
                self._decryptor.decrypt(ciphertext, plain)
            except (RuntimeError, ValueError) as error:
                raise NotThisFormat("The ciphertext is not of a form that can be decrypted.") from error
            out.append(np.array(self._encoder.decode_complex(plain)))
        return out


def _centre(values: NDArray[np.uint64], bits: int) -> NDArray[np.float64]:
    """Map residues modulo 2^bits to signed numbers in [-2^(bits-1), 2^(bits-1))."""
    moved = (values + np.uint64(1 << (bits - 1))) & np.uint64((1 << bits) - 1)
    return np.asarray(moved.astype(np.float64) - 2.0 ** (bits - 1))
