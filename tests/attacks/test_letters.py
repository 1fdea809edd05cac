"""Every test of this folder is counted under an attack, and every attack has its tests."""

import ast
from pathlib import Path

from tests.attacks.letters import ATTACKS, CONTROLS, find_attack


def test_every_attack_has_a_letter_and_every_letter_its_tests() -> None:
    found = set()
    for path in Path(__file__).parent.glob("test_*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                find_attack(node.name)
                found.add(node.name)
    listed = {test for attacks in ATTACKS.values() for tests in attacks.values() for test in tests} | CONTROLS
    assert listed == found
