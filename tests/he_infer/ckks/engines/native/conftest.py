"""Fixture of the compiled kernels, from the user's own folder: compiled once for a version of the sources."""

import pytest

from he_infer.ckks.engines.native.support import find_obstacle


@pytest.fixture(scope="session")
def kernels() -> object:
    if obstacle := find_obstacle():
        pytest.skip(f"no native engine here: {obstacle}")
    from he_infer.ckks.engines.native.code_cache import load_kernels

    return load_kernels()
