"""A worker's cache of evaluation keys, shared among clients: no client's key sets drive out those of one that has less.

Where it is full, a set of the client with most memory goes, the one that was not used for longest. So a client that
asks with many key sets in turn reads its own from the store each time, and nobody else's.
"""

from collections import Counter, OrderedDict
from dataclasses import dataclass

from he_infer.ckks.evaluate import EvaluationKeys

Name = tuple[str, str]
"""Plan and id of a key set."""


@dataclass(frozen=True)
class _Entry:
    client: str
    keys: EvaluationKeys
    size: int


class KeyCache:
    """Evaluation keys by plan and id, those used last at the end.

    Args:
        capacity: bytes of memory; one key set is kept however large it is.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._entries: OrderedDict[Name, _Entry] = OrderedDict()
        self._held: Counter[str] = Counter()
        """Bytes by client."""

    def find(self, name: Name) -> EvaluationKeys | None:
        """The keys of this name, which are thereby used."""
        entry = self._entries.get(name)
        if entry is None:
            return None
        self._entries.move_to_end(name)
        return entry.keys

    def add(self, client: str, name: Name, keys: EvaluationKeys, size: int) -> None:
        """Keep keys of a client, which take `size` bytes in memory, and drop what no longer fits."""
        self._drop(name)
        self._entries[name] = _Entry(client, keys, size)
        self._held[client] += size
        while self._held.total() > self._capacity and len(self._entries) > 1:
            others = list(self._entries)[:-1]
            self._drop(max(others, key=lambda each: self._held[self._entries[each].client]))

    def _drop(self, name: Name) -> None:
        if (entry := self._entries.pop(name, None)) is not None:
            self._held[entry.client] -= entry.size
            if not self._held[entry.client]:
                del self._held[entry.client]
