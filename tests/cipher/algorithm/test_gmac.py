"""GMAC in pieces and of a whole are one hash."""

import pytest

from cipher.algorithm.gmac import Gmac, hash_whole


@pytest.mark.parametrize("most", [2**31 - 1, 99])
def test_hash_of_pieces_is_the_hash_of_the_whole(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cipher.algorithm.gmac._MOST_AT_ONCE", most)
    key, content = bytes(range(32)), bytes(range(100))
    pieces = Gmac(key)
    pieces.update(content[:37])
    pieces.update(memoryview(content)[37:])
    assert pieces.digest() == hash_whole(key, memoryview(content)) == hash_whole(key, content)
