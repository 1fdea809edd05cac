"""Fenced blocks of the pages in docs/: where they stand, their language, and whether the tests run them."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted((ROOT / "docs").glob("*.md"))
LANGUAGES = frozenset({"python", "sh", "toml", "json", "ini", "text"})
MOST_LINES = 25
_FENCE = re.compile(r'^```(\w*)(?: title="([a-zA-Z0-9 \']+)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """One fenced block."""

    page: Path
    line: int
    language: str
    title: str | None
    """The reason why the tests do not run the block, such as `needs an archive`; it is checked instead."""
    text: str

    @property
    def place(self) -> str:
        return f"{self.page.name}:{self.line}"

    @property
    def runs(self) -> bool:
        return self.language in ("python", "sh") and self.title is None


def read_blocks(page: Path) -> list[Block]:
    """Read a page's fenced blocks in their order.

    Raises:
        ValueError: a fence is not closed, or has words beside its language that are not known.
    """
    text = page.read_text(encoding="utf-8")
    found = [
        Block(page, text.count("\n", 0, match.start()) + 1, match[1], match[2], match[3])
        for match in _FENCE.finditer(text)
    ]
    if len(re.findall(r"^\s*```", text, re.MULTILINE)) != 2 * len(found):
        raise ValueError(f"{page.name}: a fence is indented, is not closed, or has unknown words beside its language")
    return found


def read_statements(text: str) -> list[str]:
    """Split a shell block into its commands: continued lines are joined, comments and empty lines left out."""
    joined = text.replace("\\\n", " ")
    lines = (re.sub(r"(^|\s)#.*", "", line).strip() for line in joined.splitlines())
    return [line for line in lines if line]
