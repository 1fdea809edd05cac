"""`python -m he_infer.ckks.engines.native FOLDER`: compile where needed, run the self-test, report.

It is a process of its own, so that a crash here does not end the caller. One line of JSON goes to standard output:
`obstacle` (null if the engine can be trusted) and `seconds`; progress goes to standard error.
"""

import json
import sys
import time
from pathlib import Path

from he_infer.ckks.engines.native.support import find_obstacle
from he_infer.errors import HeInferError


def check(folder: Path) -> str | None:
    """Return the reason why the native engine cannot be used here, or None."""
    if obstacle := find_obstacle():
        return obstacle
    from he_infer.ckks.engines.native.code_cache import leave_scipy_out, load_kernels
    from he_infer.ckks.engines.native.self_test import check_kernels

    leave_scipy_out()
    try:
        check_kernels(load_kernels(folder, lambda line: print(line, file=sys.stderr, flush=True)))  # noqa: T201
    except HeInferError as error:
        return " ".join(str(error).split())
    except OSError as error:
        return f"{folder} cannot be used: {error.strerror or error}"
    return None


def main() -> None:
    """Run the check and print its result."""
    started = time.monotonic()
    obstacle = check(Path(sys.argv[1]))
    sys.stdout.write(json.dumps({"obstacle": obstacle, "seconds": round(time.monotonic() - started, 2)}) + "\n")


if __name__ == "__main__":
    main()
