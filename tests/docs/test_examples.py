"""The examples of the documentation: those that can run do run, and all others name commands and options that exist.

A page's blocks run in their order, in a folder of the page's own that holds copies of the files which examples name
(`chest.hebundle`, `hospital.key`, `cloud.token`, `scans/`, ...). `https://cloud.example:8443` stands for a server that
runs, `pneumoniamnist` for a small set of shapes, and training takes one pass.
"""

import ast
import importlib
import json
import linecache
import re
import shlex
import tomllib
from pathlib import Path

import pytest
from typer.exceptions import TyperException

from he_infer.server.settings import ServerSettings
from tests.docs.blocks import LANGUAGES, MOST_LINES, PAGES, ROOT, Block, read_blocks, read_statements
from tests.docs.commands import check_command, check_statement, run_statement
from tests.docs.conftest import URL, Shelf

BLOCKS = [block for page in PAGES for block in read_blocks(page)]
MOST_NOT_RUN = 50
"""Blocks in all pages that have a title and do not run here."""
REASONS = ("needs", "takes", "measures", "trains", "installs", "opens", "asks", "runs until")
"""First words of a title, which says why the block does not run here."""
NOTHING_TO_CALL = {"index.md", "threat-model.md", "cipher-reduction.md", "server-trials.md"}
RUN_ELSEWHERE = {"ten-minutes.md", "publish.md"}
"""The script, which tests/test_readme.py runs beside the steps of README.md, and the commands that fill the shelf."""
LABELS = frozenset(
    {"publishing", "image", "key-encryption", "sealed", "recipient", "vault", "object", "chunk", "passphrase", "key"}
    | {"server", "COMMAND"}
)
"""Second words of code spans that are no commands: purposes of derived keys, a server's line, a placeholder."""
RUNNABLE_PAGES = [
    page
    for page in PAGES
    if page.name not in RUN_ELSEWHERE and any(block.runs for block in BLOCKS if block.page == page)
]


def test_examples_of_each_page_run_in_their_order(shelf: Shelf, tmp_path: Path, subtests: pytest.Subtests) -> None:
    for page in RUNNABLE_PAGES:
        folder = tmp_path / page.stem
        shelf.fill(folder)
        with subtests.test(page=page.name), pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            patch.setenv("HE_INFER_DATA", str(folder))
            for name in ("HE_INFER_URL", "HE_INFER_SERVER_DATA_DIR"):  # what a page exports ends with it
                patch.setenv(name, "")
                patch.delenv(name)
            _run_blocks(page, shelf)


def _run_blocks(page: Path, shelf: Shelf) -> None:
    names: dict[str, object] = {"__name__": "__main__"}
    for block in read_blocks(page):
        if not block.runs:
            continue
        text = block.text.replace(URL, shelf.url)
        if block.language == "sh":
            for statement in read_statements(text):
                run_statement(statement)
        else:
            text = re.sub(r"epochs=\d+", "epochs=1", text)
            linecache.cache[block.place] = (len(text), None, text.splitlines(keepends=True), block.place)
            exec(compile(text, block.place, "exec"), names)


def test_each_page_with_something_to_call_has_an_example() -> None:
    without = {
        page.name for page in PAGES if not any(block.language in ("python", "sh") for block in read_blocks(page))
    }
    assert without == NOTHING_TO_CALL


def test_few_blocks_do_not_run_and_each_says_why() -> None:
    titles = {block.place: block.title for block in BLOCKS if block.title}
    assert len(titles) <= MOST_NOT_RUN
    assert not [place for place, title in titles.items() if not title.startswith(REASONS)]


def test_every_block_has_a_language_and_at_most_25_lines() -> None:
    assert not [block.place for block in BLOCKS if block.language not in LANGUAGES]
    assert not [
        block.place for block in BLOCKS if block.language in ("python", "sh") and block.text.count("\n") > MOST_LINES
    ]


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.title], ids=lambda block: block.place)
def test_block_that_does_not_run_names_what_exists(block: Block) -> None:
    if block.language == "python":
        _check_imports(block)
        return
    for statement in read_statements(block.text):
        check_statement(statement)


@pytest.mark.parametrize(
    "statement",
    [
        "he-infer clasify scans/",
        "he-infer classify scans/ --buncle x",
        "he-infer tokens ad x",
        "he-infer classify scans/ --bundle",
        "make demos",
        "pip install '.[serve]'",
    ],
)
def test_misspelt_command_is_found(statement: str) -> None:
    with pytest.raises((AssertionError, TyperException)):
        check_statement(statement)


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md"], ids=lambda page: page.name)
def test_commands_in_prose_exist(page: Path) -> None:
    prose = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for span in re.findall(r"`((?:he-infer|he-experiments) [^`]+)`", prose):
        words = shlex.split(" ".join(span.split()).replace("...", ""))
        if words[1] not in LABELS:
            check_command(words)


def test_examples_of_json_and_toml_parse() -> None:
    for block in BLOCKS:
        if block.language == "json":
            json.loads(block.text)
        elif block.language == "toml":
            tomllib.loads(block.text)


def test_settings_named_by_the_pages_exist_with_the_stated_defaults() -> None:
    fields = ServerSettings.model_fields
    (block,) = [block for block in read_blocks(ROOT / "docs" / "server.md") if block.language == "toml"]
    assert set(tomllib.loads(block.text)) <= set(fields)
    units = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "s": 1}
    limits = re.findall(r"^\| [^|]+ \| ([\d,]+)(?: (\w+))? \| `(\w+)` \|$", _read("protocol.md"), re.MULTILINE)
    assert len(limits) >= 5
    for number, unit, name in limits:
        assert fields[name].default == int(number) * units.get(unit, 1), name


def _read(page: str) -> str:
    return (ROOT / "docs" / page).read_text(encoding="utf-8")


def _check_imports(block: Block) -> None:
    """Check that what an example imports from this project exists."""
    for node in ast.walk(ast.parse(block.text)):
        if (
            isinstance(node, ast.ImportFrom)
            and node.module
            and node.module.split(".")[0] in ("models", "he_infer", "cipher")
        ):
            module = importlib.import_module(node.module)
            for alias in node.names:
                assert hasattr(module, alias.name) or importlib.util.find_spec(f"{node.module}.{alias.name}"), (
                    block.place
                )
