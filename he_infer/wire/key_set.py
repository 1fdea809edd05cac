"""Ids of key sets, which name the evaluation keys that an answer was computed with.

A key set belongs to one secret key file. Its id is the same for the evaluation keys of every plan.
"""

import re
import secrets

_FORM = re.compile(r"[0-9a-f]{32}")


def new_key_set() -> str:
    """Make a fresh id: 16 random bytes as 32 lower-case hex digits."""
    return secrets.token_hex(16)


def is_key_set(text: str) -> bool:
    """Tell whether a text has the form of an id."""
    return _FORM.fullmatch(text) is not None
