"""Compiles the image cipher and the native engine in another process, while this one trains a model.

`python -m he_infer.demo.preparing FOLDER` is that process. Both results are kept on disk for later processes.
"""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from he_infer.ckks.engines.native.code_cache import default_folder


@contextmanager
def prepare_engines() -> Iterator[None]:
    """Compile on another core during the context, if it has not been done before.

    It is a process and not a thread: a compilation would hold Python's lock, and slow the training down. A server that
    starts within the context waits for the same compilation, and reports its errors.
    """
    command = [sys.executable, "-m", "he_infer.demo.preparing", str(default_folder())]
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet)  # noqa: S603 - our own module
    try:
        yield
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait()


def main() -> None:
    """Compile both, the image cipher first: it is needed first."""
    from cipher.keys.vault_key import VaultKey
    from he_infer.ckks.engines.native.__main__ import check
    from he_infer.demo.storing import warm_up

    warm_up(VaultKey.generate())
    check(Path(sys.argv[1]))


if __name__ == "__main__":
    main()
