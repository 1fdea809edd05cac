"""A replaced key set, and the time until which a server keeps it for other copies of the key file."""

from dataclasses import dataclass
from typing import Any

from he_infer.errors import NotThisFormat
from he_infer.wire.key_set import is_key_set


@dataclass(frozen=True)
class Retired:
    """A replaced key set."""

    key_set: str
    expires: int
    """End of the overlap, Unix seconds. The next rotation or pruning after it deletes the key set at the server."""

    def to_json(self) -> dict[str, Any]:
        """The form in the key file."""
        return {"expires": self.expires, "key_set": self.key_set}

    @staticmethod
    def from_json(entry: object) -> "Retired":
        """Read that form.

        Raises:
            NotThisFormat: the value does not have that form.
        """
        match entry:
            case {"expires": int(expires), "key_set": str(key_set)} if is_key_set(key_set):
                return Retired(key_set, expires)
        raise NotThisFormat("The key file names a retired key set in another form than this release knows.")
