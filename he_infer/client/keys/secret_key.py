"""The CKKS secret key: the only code that encrypts under it and decrypts. Client only."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from he_infer.ckks.engines.seal import context, dump, parse, sealapi
from he_infer.ckks.parameters import Parameters
from he_infer.ckks.planning.plan import Plan
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
        """A fresh key from SEAL's generator, seeded by the system."""
        return cls(parameters, sealapi.KeyGenerator(context(parameters)).secret_key())

    def to_bytes(self) -> bytes:
        """Ring size, chain, then SEAL's bytes. To be sealed under a passphrase before it is written anywhere."""
        chain = self.parameters.modulus_bits
        head = self.parameters.ring_size.to_bytes(4, "little") + bytes([len(chain), *chain])
        return head + dump(self._raw)

    @classmethod
    def from_bytes(cls, data: bytes) -> "SecretKey":
        """Read what `to_bytes` wrote."""
        if len(data) < 6:
            raise NotThisFormat("The secret key is cut off.")
        end = 5 + data[4]
        parameters = Parameters(int.from_bytes(data[:4], "little"), tuple(data[5:end]))
        return cls(parameters, parse(sealapi.SecretKey(), parameters, data[end:]))

    def evaluation_keys(self, plan: Plan) -> dict[str, bytes]:
        """Seeded keys for exactly what the plan does: rotations (`galois`), products (`relin`), masks (`public`)."""
        if plan.parameters != self.parameters:
            raise MissingKey("The secret key was made for other parameters than the plan's.")
        return self.keys_for(plan.galois_elements, relinearise=plan.relinearise, public=plan.refreshes)

    def keys_for(self, elements: Sequence[int], *, relinearise: bool, public: bool) -> dict[str, bytes]:
        """Seeded keys for these Galois elements, relinearisation and encryptions of zero."""
        generator = sealapi.KeyGenerator(self._context, self._raw)
        parts = {}
        if elements:
            parts["galois"] = dump(generator.create_galois_keys(list(elements)))
        if relinearise:
            parts["relin"] = dump(generator.create_relin_keys())
        if public:
            # A public key is an encryption of zero at the key's level; this form of it is seeded, half the size.
            parts["public"] = dump(self._encryptor.encrypt_zero_symmetric(self._context.key_parms_id()))
        return parts

    def encrypt(self, slots: Sequence[NDArray[np.generic]], scale: float) -> list[bytes]:
        """Seeded fresh ciphertexts of (slots,) vectors, real or complex, at a scale."""
        out = []
        for vector in slots:
            if vector.shape != (self.parameters.slots,):
                raise ShapeError(f"{vector.shape} numbers; expected ({self.parameters.slots},).")
            plain = sealapi.Plaintext()
            self._encoder.encode(vector.tolist(), scale, plain)
            out.append(dump(self._encryptor.encrypt_symmetric(plain)))
        return out

    def decrypt(self, parts: Sequence[bytes]) -> list[NDArray[np.complex128]]:
        """The (slots,) complex vectors in ciphertexts.

        Raises:
            NotThisFormat: not a ciphertext of these parameters, or a transparent one, which anybody could have made.
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
