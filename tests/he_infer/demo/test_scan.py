"""The search for plaintext finds every piece at any place, and its counts are right."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from he_infer.demo import scan as module
from he_infer.demo.scan import Piece, Source, list_sources, plant, scan


def _piece(data: bytes, what: str = "x", kind: str = "kind") -> Piece:
    return Piece(kind, what, (data,))


def test_planted_name_in_nested_file_is_found(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(bytes(40))
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "b.bin").write_bytes(b"\x01\x02Doe^Jane\x03")
    outcome = scan(list_sources(tmp_path), [_piece(b"Doe^Jane", "name"), _piece(b"\x07" * 6, "pixels")])
    assert [(hit.piece.what, hit.where) for hit in outcome.hits] == [("name", "deep/b.bin")]
    assert (outcome.pieces, outcome.objects, outcome.bytes_read) == (2, 2, 51)


def test_objects_of_one_kind_become_one_row(tmp_path: Path) -> None:
    (tmp_path / "00001.sealed").write_bytes(b"\x00short\x00")
    (tmp_path / "00002.sealed").write_bytes(b"\x01a longer line of text\x02")
    (row,) = scan(list_sources(tmp_path), []).kinds
    assert (row.name, row.count, row.longest_text) == ("#.sealed", 2, "a longer line of text")
    assert 0.0 < row.entropy < row.expected


@settings(deadline=None)
@given(
    st.lists(st.binary(min_size=6, max_size=40), min_size=1, max_size=12, unique=True),
    st.binary(max_size=300),
    st.integers(0, 300),
)
def test_scan_agrees_with_a_plain_search(needles: list[bytes], content: bytes, place: int) -> None:
    place = min(place, len(content))
    content = content[:place] + needles[0] + content[place:]
    pieces = [_piece(needle, str(number)) for number, needle in enumerate(needles)]
    found = {hit.piece for hit in scan([Source("s", content)], pieces).hits}
    assert found == {piece for piece in pieces if piece.spellings[0] in content}


def test_piece_across_two_chunks_is_found_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CHUNK", 32)
    (tmp_path / "large").write_bytes(bytes(25) + b"Doe^Jane^of^Springfield" + bytes(50))
    outcome = scan(list_sources(tmp_path), [_piece(b"Doe^Jane^of^Springfield")])
    assert len(outcome.hits) == 1
    assert outcome.bytes_read == 98


def test_every_plant_is_found_in_the_copies_and_none_in_the_sources() -> None:
    random = np.random.default_rng(3)
    sources = [Source(f"s{size}", random.bytes(size)) for size in (10, 100, 5000)]
    pieces = [_piece(random.bytes(24), str(number)) for number in range(50)]
    assert not scan(sources, pieces).hits
    assert {hit.piece for hit in scan(plant(sources, pieces, random), pieces).hits} == set(pieces)


def test_too_short_a_piece_is_refused() -> None:
    with pytest.raises(ValueError, match="6 are the least"):
        scan([], [_piece(b"short")])


def test_work_grows_with_bytes_and_not_with_pieces() -> None:
    """The number of table look-ups is the same for ten thousand pieces as for one."""
    random = np.random.default_rng(0)
    content = random.bytes(1 << 16)
    looked_up: list[int] = []
    kept = module._hash

    def counting(values: NDArray[np.uint64]) -> NDArray[np.intp]:
        looked_up.append(len(values))
        return kept(values)

    sums = []
    for count in (1, 10_000):
        looked_up.clear()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "_hash", counting)
            scan([Source("s", content)], [_piece(random.bytes(24), str(n)) for n in range(count)])
        sums.append(sum(looked_up) - count)
    assert sums[0] == sums[1] == len(content)
