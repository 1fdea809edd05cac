"""Checks, for `he_infer` and `experiments`, that the sibling packages Python would load are ours.

`cipher`, `models` and `experiments` are common names. A folder of that name in the user's own project comes first on
`sys.path` and would be loaded in their place without a word. This module knows the names and nothing else.
"""

from importlib.machinery import PathFinder
from pathlib import Path

SIBLINGS = ("he_infer", "cipher", "models", "experiments")


def check_siblings() -> None:
    """Check that all four packages of this distribution lie side by side.

    Nothing is imported: only the place that an import would take is looked up.

    Raises:
        ImportError: a sibling would be loaded from elsewhere; the message names that path.
    """
    home = Path(__file__).resolve().parent.parent
    for name in SIBLINGS:
        spec = PathFinder.find_spec(name)
        if spec is None or spec.origin is None:
            raise ImportError(
                f"The package '{name}' of he-infer was not found beside {home / 'he_infer'}: the installation is "
                "incomplete. Install he-infer again."
            )
        found = Path(spec.origin).resolve().parent
        if found != home / name:
            raise ImportError(
                f"'import {name}' would load {found}, which is not the package '{name}' of he-infer (that one is "
                f"{home / name}). Rename or move that folder, or run Python from another directory."
            )
