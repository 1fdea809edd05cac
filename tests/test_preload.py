"""Lists of modules by name: preload lists and the guard's. Python ignores a wrong name in them silently."""

import importlib
import importlib.util

import pytest

from cipher.vault.batch import COMPILED
from cipher.vault.batch import PRELOAD as CIPHER_PRELOAD
from he_infer import terminal
from he_infer.server.workers.import_guard import FORBIDDEN
from he_infer.server.workers.pool import PRELOAD as SERVER_PRELOAD


@pytest.mark.parametrize("name", [*CIPHER_PRELOAD, COMPILED, *SERVER_PRELOAD, *terminal._ERROR_TREES])
def test_module_named_in_a_list_can_be_imported(name: str) -> None:
    assert importlib.import_module(name).__name__ == name


@pytest.mark.parametrize("name", FORBIDDEN)
def test_module_named_by_the_import_guard_exists(name: str) -> None:
    assert importlib.util.find_spec(name) is not None
