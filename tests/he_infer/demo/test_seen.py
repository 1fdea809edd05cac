"""The search for plaintext finds what is there, and says so."""

from pathlib import Path

from he_infer.demo.seen import Fragment, describe_object, list_files, search_files


def test_search_finds_a_planted_fragment(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"\x00" * 40)
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "b.bin").write_bytes(b"\x01\x02Doe^Jane\x03")
    outcome = search_files(
        list_files(tmp_path), [Fragment("patient's name", b"Doe^Jane"), Fragment("pixels", b"\x07\x08")]
    )
    assert outcome.found == ("patient's name in b.bin",)
    assert (outcome.fragments, outcome.files, outcome.bytes_searched) == (2, 2, 51)


def test_a_row_shows_the_longest_text() -> None:
    row = describe_object("log", [b"\x00short\x00", b"\x01a longer line of text\x02"])
    assert row.longest_text == "a longer line of text"
    assert row.count == 2
    assert 0.0 < row.entropy < row.expected
