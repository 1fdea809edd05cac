"""Folders to be flushed to the disk once for many new files, before any of these is acknowledged.

A file that is written atomically is flushed itself, renamed into its place, and then its folder is flushed. The last
step is the same for all files of a folder: it may come once, after the last of them. Until then a power cut may undo
the renames, and leaves no mixture. Knows nothing of what the files are.
"""

import os
import sys
import threading
from pathlib import Path

from cipher.errors import StorageProblem


class FolderSyncs:
    """The folders of new files, collected by threads; flushed by `finish`.

    A copy in another process collects nothing, as nobody would finish it there: it has folders flushed at once.
    """

    def __init__(self) -> None:
        self._folders: set[Path] = set()
        self._lock = threading.Lock()
        self._collects = True

    def add(self, folder: Path) -> bool:
        """Whether `finish` will flush the folder; if not, the caller must."""
        with self._lock:
            if self._collects:
                self._folders.add(folder)
            return self._collects

    def finish(self) -> None:
        """Flush the folders; then all files that were written before are durable.

        Raises:
            StorageProblem: the file system refused.
        """
        with self._lock:
            folders, self._folders = self._folders, set()
        for folder in sorted(folders):
            try:
                flush_folder(folder)
            except OSError as error:
                raise StorageProblem(
                    f"Cannot flush the folder {folder} to the disk: {error.strerror or error}. What was written to it "
                    "may be lost in a power cut: run the same command again."
                ) from error

    def __getstate__(self) -> dict[str, object]:
        return {}

    def __setstate__(self, _: dict[str, object]) -> None:
        FolderSyncs.__init__(self)
        self._collects = False


def flush_folder(folder: Path) -> None:
    """Flush a folder's entries to the disk, so that new names in it survive a power cut.

    Windows can neither open nor flush a folder; its renames are journalled.

    Raises:
        OSError: the file system refused.
    """
    if sys.platform == "win32":
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
