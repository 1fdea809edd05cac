"""Choice of the engine: the compiled one where numba is installed (the extra `fast`), else numpy."""

import functools
import importlib.util

from cipher.algorithm.engine.protocol import Engine
from cipher.algorithm.engine.vectorised import VectorisedEngine


@functools.cache
def by_name(name: str) -> Engine:
    """The engine called "numpy" or "numba".

    Raises:
        ValueError: another name, or numba is not installed.
    """
    if name == "numpy":
        return VectorisedEngine()
    if name == "numba" and importlib.util.find_spec("numba") is not None:
        from cipher.algorithm.engine.compiled import CompiledEngine

        return CompiledEngine()
    raise ValueError(f"No engine {name!r} here; there are 'numpy' and, with the extra 'fast' installed, 'numba'.")


def best() -> Engine:
    """The fastest engine that is installed."""
    return by_name("numba" if importlib.util.find_spec("numba") is not None else "numpy")
