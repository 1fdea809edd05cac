"""Programs of this project that another Python interpreter runs, because their packages cannot live beside it."""

import json
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from experiments.errors import ExperimentError


@dataclass(frozen=True)
class PeerProgram:
    """A module that reads arrays from the file it is given and prints one JSON object."""

    name: str
    module: str
    """As `python -m` takes it, seen from `folder`."""
    packages: str
    """Arguments of `pip install` that bring what the module imports."""
    folder: Path = Path(__file__).parent
    seconds: float = 3600

    def run(self, python: Path, **arrays: Any) -> dict[str, Any]:
        """Run it by an interpreter, with arrays.

        Raises:
            ExperimentError: the interpreter cannot be started, lacks a package, or the program failed, took too long or
                printed something else; the message has its last words.
        """
        found = shutil.which(python)
        if found is None:
            raise ExperimentError(f"{python} cannot be started: there is no such program. Name a Python interpreter.")
        with tempfile.TemporaryDirectory() as name:
            data = Path(name) / "data.npz"
            np.savez(data, **arrays)
            command = [str(Path(found).absolute()), "-B", "-m", self.module, str(data)]
            try:
                done = subprocess.run(  # noqa: S603 - the user's own interpreter
                    command, capture_output=True, text=True, timeout=self.seconds, check=False, cwd=self.folder
                )
            except OSError as error:
                raise ExperimentError(
                    f"{python} cannot be started ({error.strerror}). Name a Python interpreter."
                ) from None
            except subprocess.TimeoutExpired:
                raise ExperimentError(
                    f"{self.name} was not done within {self.seconds:g} s; use a smaller --limit or --repeats."
                ) from None
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no word"])[-1]
            raise ExperimentError(
                f"{self.name} did not run with {python}: {last}. Install it there: python -m venv peer; "
                f"peer/bin/pip install {self.packages}"
            )
        try:
            answer = json.loads(done.stdout)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise ExperimentError(
                f"{self.name} printed no JSON object with {python} but {done.stdout[:60]!r}. Expected figures alone."
            )
        return answer
