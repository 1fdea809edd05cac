"""The import guard: a process that installs it cannot load the code that decrypts, trains or reads images.

Import contracts between the packages are checked when the code is built. The guard enforces them at run time, whatever
a dependency, a configuration or a later edit does.
"""

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

FORBIDDEN = (
    "he_infer.client",
    "he_infer.owner",
    "he_infer.demo",
    "he_infer.commands",
    "cipher",
    "models",
    "experiments",
    "torch",
)


class GuardedImport(ImportError):
    """A forbidden module was asked for."""


class _Guard(MetaPathFinder):
    """Refuses the forbidden modules and everything below them; leaves all others to the next finder."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        del path, target
        if is_forbidden(fullname):
            raise GuardedImport(f"'{fullname}' must not be loaded in the server's processes.", name=fullname)
        return None


def is_forbidden(name: str) -> bool:
    """Tell whether a module of this name is forbidden."""
    return any(name == top or name.startswith(top + ".") for top in FORBIDDEN)


def install() -> None:
    """Put the guard before all other finders of this process; a second call changes nothing.

    Raises:
        GuardedImport: a forbidden module is loaded already, so that the guard comes too late.
    """
    loaded = sorted(name for name in sys.modules if is_forbidden(name))
    if loaded:
        raise GuardedImport(f"Loaded before the server's import guard was installed: {', '.join(loaded)}.")
    if not any(isinstance(finder, _Guard) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Guard())


def installed() -> bool:
    """Tell whether the guard is in place."""
    return bool(sys.meta_path) and isinstance(sys.meta_path[0], _Guard)
