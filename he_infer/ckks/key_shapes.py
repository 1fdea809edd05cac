"""The exact form of a client's request and keys under a plan: what a server accepts, before it inflates or parses.

Nothing that protects the server may be chosen by the client. The public part therefore comes in its seeded form alone,
whose second polynomial is the expansion of a seed and so has no trapdoor, and the evaluation keys are exactly the
plan's: these Galois elements and no others, one relinearisation key, a digit for each prime, all at the key's level.
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
        """The shapes of keys.

        Args:
            key_level: a seeded ciphertext modulo all primes, the special one included, of scale 1.
            elements: Galois elements.
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
        """Bytes of each part's body once inflated."""
        return {name: shape.size for name, shape in self.parts.items()}

    @property
    def memory(self) -> int:
        """Bytes that the keys take once SEAL has expanded their seeds: both polynomials are then held."""
        return 2 * sum(self.sizes.values())

    def read(self, given: Mapping[str, bytes]) -> dict[str, bytes]:
        """The bodies of a key set's parts, each checked.

        Raises:
            MissingKey: a part is missing.
            KeyProblem: there is a part that the plan does not use.
            NotThisFormat, UnsupportedVersion: a part is not exactly of its shape.
        """
        for name in self.parts:
            if name not in given:
                raise MissingKey(f"The evaluation keys lack the part '{name}'.")
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
