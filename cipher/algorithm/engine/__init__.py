"""The loops of the cipher, twice: with numpy alone, and compiled with numba. Both give the same bytes."""

from cipher.algorithm.engine.choice import best, by_name
from cipher.algorithm.engine.protocol import Engine

__all__ = ["Engine", "best", "by_name"]
