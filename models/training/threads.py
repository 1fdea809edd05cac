"""Restriction of torch to one thread while a model is trained."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch compute on one thread while the context lasts.

    Sums then have one order whatever the machine, so that a seed gives the same model with any number of cores; and
    networks this small gain little from a second thread, but lose a great deal where it has to wait for a busy core.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
