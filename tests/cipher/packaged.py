"""The files that pydicom and pydicom-data carry: DICOM of every kind, and some that is not."""

import importlib.metadata
from pathlib import Path

NOT_DATA = frozenset([".py", ".pyc", ".pyi"])


def packaged_files() -> list[Path]:
    """All packaged files, smallest first."""
    found = []
    for name in ("pydicom", "pydicom-data"):
        for file in importlib.metadata.files(name) or []:
            path = Path(str(file.locate()))
            if "data" in file.parts[:-1] and path.suffix not in NOT_DATA and path.is_file():
                found.append(path)
    return sorted(found, key=lambda path: (path.stat().st_size, path.name))


def packaged(name: str) -> Path:
    """A packaged file by name."""
    return next(path for path in packaged_files() if path.name == name)
