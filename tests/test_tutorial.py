"""The tutorial's notebook is a Python file in jupytext's form; it runs from its first cell to its last."""

import ast
import importlib.util
import os
from pathlib import Path

import pytest

TUTORIAL = Path(__file__).parents[1] / "docs" / "notebooks" / "tutorial.py"
NEEDED = ("jupytext", "nbclient", "ipykernel")


def test_tutorial_alternates_text_and_code_and_is_python() -> None:
    text = TUTORIAL.read_text(encoding="utf-8")
    ast.parse(text)
    assert text.count("# %% [markdown]") >= 7
    assert "pip install '.[notebook]'" in text


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # Jupyter's own
@pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in NEEDED), reason="Jupyter is in the extra 'notebook'"
)
def test_tutorial_runs_and_its_labels_agree_with_those_in_clear(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import jupytext
    from nbclient import NotebookClient

    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("MPLBACKEND", "agg")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(TUTORIAL.parents[2]), os.environ.get("PYTHONPATH", "")]))
    notebook = jupytext.read(TUTORIAL)
    short = [cell for cell in notebook.cells if "epochs = 10" in cell.source]
    assert len(short) == 1
    short[0].source = short[0].source.replace("epochs = 10", "epochs = 3")
    NotebookClient(notebook, timeout=900, kernel_name="python3").execute(cwd=str(tmp_path))
    said = "".join(
        output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", []) if "text" in output
    )
    assert "100% of the labels are those computed in clear" in said
    assert "Not this model's kind" in said
