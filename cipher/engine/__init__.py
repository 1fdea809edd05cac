"""The loops of the cipher, twice: with numpy alone, and compiled with numba. Both give the same bytes."""

from cipher.engine.choice import best, by_name
from cipher.engine.protocol import Engine, Sweep

__all__ = ["Engine", "Sweep", "best", "by_name"]
