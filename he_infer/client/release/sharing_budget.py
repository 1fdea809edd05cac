"""How many images' scores were shared under a secret key: the count that flooding's security rests on.

It lies beside the key file, as `<key file>.shared`: a JSON object with `version`, `queries` and `used`. It holds no
secret. Whoever deletes it forgets what was shared, so it belongs into the same backup as the key.
"""

import fcntl
import json
import os
from pathlib import Path

from he_infer.errors import NotThisFormat, UsageError

VERSION = 1


def count(key_file: Path, images: int, queries: int) -> int:
    """Enter images into the count before their scores are shared; returns how many may still be.

    Args:
        key_file: the secret key's file.
        images: how many are about to be shared.
        queries: how many the flooding's noise is made for, in the key's whole life.

    Raises:
        UsageError: more than `queries` would be shared, or the noise was first made for another number.
        NotThisFormat: the count is damaged.
        OSError: it cannot be written.
    """
    path = key_file.with_name(key_file.name + ".shared")
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    with os.fdopen(descriptor, "r+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        used = _used(path, file.read(), queries)
        if used + images > queries:
            raise UsageError(
                f"Scores of {used} of {queries} images were shared under {key_file}; {images} more are too many. Make "
                "a new key with 'he-infer keys new'."
            )
        file.seek(0)
        file.truncate()
        json.dump({"version": VERSION, "queries": queries, "used": used + images}, file)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    return queries - used - images


def _used(path: Path, text: str, queries: int) -> int:
    if not text:
        return 0
    try:
        match json.loads(text):
            case {"version": 1, "queries": int(first), "used": int(used)} if 0 <= used <= first:
                pass
            case _:
                raise NotThisFormat(f"{path} is not a count of shared scores. Restore it from a backup.")
    except ValueError as error:
        raise NotThisFormat(f"{path} is damaged: it is not JSON. Restore it from a backup.") from error
    if first != queries:
        raise UsageError(
            f"The noise of what was shared under this key so far was made for {first} images, not {queries}. Ask for "
            f"{first} again, or make a new key with 'he-infer keys new'."
        )
    return used
