"""The exact form of a client's keys under a plan, which the server checks before it inflates or parses them.

The client must not choose anything that protects the server. The public part is therefore accepted in its seeded form
only, whose second polynomial is the expansion of a seed and so has no trapdoor. The evaluation keys are exactly the
plan's: its Galois elements and no others, one relinearisation key, a digit for each prime, all at the key's level.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from he_infer.ckks.seal_format import CiphertextShape, KeySwitchShape, read_ciphertext, read_key_switches
from he_infer.errors import KeyProblem, MissingKey, NotThisFormat

GALOIS, RELIN, PUBLIC = "galois", "relin", "public"


@dataclass(frozen=True)
class KeyShapes:
    """The parts of a key set, by name: exactly these, each of exactly this shape."""

    parts: Mapping[str, CiphertextShape | KeySwitchShape]

    @classmethod
    def build(
        cls,
        key_level: CiphertextShape,
        *,
        elements: tuple[int, ...],
        relinearise: bool,
        public: bool,
    ) -> "KeyShapes":
        """Build the shapes of a key set.

        Args:
            key_level: shape of a seeded ciphertext modulo all primes, the special one included, of scale 1.
            elements: Galois elements of the rotations and the conjugation.
            relinearise: whether there is a relinearisation key.
            public: whether there is a public part.
        """
        parts: dict[str, CiphertextShape | KeySwitchShape] = {}
        identity, size = key_level.parameters_id, key_level.ring_size
        digits = len(key_level.primes) - 1
        if elements:
            places = tuple(sorted((element - 1) // 2 for element in elements))
            parts[GALOIS] = KeySwitchShape(identity, size, places, digits, key_level)
        if relinearise:
            parts[RELIN] = KeySwitchShape(identity, 1, (0,), digits, key_level)
        if public:
            parts[PUBLIC] = key_level
        return cls(parts)

    @property
    def sizes(self) -> dict[str, int]:
        """Bytes of each part's inflated body, by name."""
        return {name: shape.size for name, shape in self.parts.items()}

    @property
    def memory(self) -> int:
        """Bytes of memory that the keys take after SEAL has expanded their seeds, with both polynomials."""
        return 2 * sum(self.sizes.values())

    def read(self, given: Mapping[str, bytes]) -> dict[str, bytes]:
        """Check a key set's parts and return their bodies.

        Raises:
            MissingKey: a part is missing.
            KeyProblem: the plan does not use a part.
            NotThisFormat, UnsupportedVersion: a part is not exactly of its shape.
        """
        for name in self.parts:
            if name not in given:
                raise MissingKey(f"The evaluation keys lack the part '{name}'; send exactly the plan's parts.")
        unused = sorted(set(given) - set(self.parts))
        if unused:
            raise KeyProblem(f"The plan does not use the part '{unused[0]}'; send exactly the plan's parts.")
        return {name: self._read(name, given[name]) for name in self.parts}

    def _read(self, name: str, data: bytes) -> bytes:
        shape = self.parts[name]
        try:
            return (
                read_ciphertext(data, shape) if isinstance(shape, CiphertextShape) else read_key_switches(data, shape)
            )
        except NotThisFormat as error:
            raise NotThisFormat(f"The part '{name}': {error}") from error
