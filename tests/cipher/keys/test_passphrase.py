"""Key derivation from a passphrase: several at a time, and without the memory that it needs."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from cipher.keys.passphrase import ARGON2ID, ARGON2ID_DEFAULT, SCRYPT_DEFAULT, Cost, open_, seal

WORDS = "words for a test"


@pytest.mark.parametrize("cost", [ARGON2ID_DEFAULT, SCRYPT_DEFAULT, Cost(ARGON2ID, 8 * 1024, 1, 16)])
def test_files_are_opened_in_many_threads_at_once(cost: Cost) -> None:
    sealed = seal(b"key", WORDS, "test", cost=cost)
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(lambda _: open_(sealed, WORDS, "test"), range(16))) == [b"key"] * 16


@pytest.mark.parametrize("cost", ["Cost(2, 1 << 20, 1, 1)", "Cost(1, 20, 8, 1)"])
def test_derivation_without_memory_is_refused_in_one_line(cost: str) -> None:
    code = f"""
import resource
from cipher.errors import BadKey
from cipher.keys.passphrase import Cost, seal
resource.setrlimit(resource.RLIMIT_AS, (1 << 29, 1 << 29))
try:
    seal(b"key", "words", "test", cost={cost})
except BadKey as error:
    print(error)
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "needs 1024 MiB of memory" in found.stdout, found.stderr
