"""The error codes in the source, in the documentation and in the client are the same."""

from pathlib import Path

from he_infer.wire.refusals import REFUSALS, Code

PROTOCOL = Path(__file__).parents[3] / "docs" / "protocol.md"


def test_every_code_has_a_status_and_a_meaning() -> None:
    assert set(REFUSALS) == set(Code)
    assert all(400 <= refusal.status < 600 and refusal.meaning for refusal in REFUSALS.values())


def test_the_documentation_lists_exactly_these_codes() -> None:
    text = PROTOCOL.read_text(encoding="utf-8")
    table = text.split("<!-- codes:begin -->\n")[1].split("<!-- codes:end -->")[0]
    rows = [line.split("|")[1:4] for line in table.strip().splitlines()[2:]]
    documented = {(code.strip().strip("`"), int(status), meaning.strip()) for code, status, meaning in rows}
    assert documented == {(code.value, refusal.status, refusal.meaning) for code, refusal in REFUSALS.items()}
