"""The cache of evaluation keys."""

from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from he_infer.ckks.evaluate import EvaluationKeys
from he_infer.server.workers.key_cache import KeyCache

KEYS = cast("EvaluationKeys", object())


def names_in(cache: KeyCache, *names: str) -> list[str]:
    return [name for name in names if cache.find(("plan", name)) is not None]


def test_the_least_recently_used_set_of_the_client_with_most_goes() -> None:
    cache = KeyCache(4)
    for client, name in [("a", "a1"), ("b", "b1"), ("b", "b2"), ("b", "b3")]:
        cache.add(client, ("plan", name), KEYS, 1)
    cache.find(("plan", "b1"))
    cache.add("c", ("plan", "c1"), KEYS, 1)
    assert names_in(cache, "a1", "b1", "b2", "b3", "c1") == ["a1", "b1", "b3", "c1"]


def test_among_clients_with_as_much_the_least_recently_used_set_goes() -> None:
    cache = KeyCache(2)
    for client in ("a", "b", "c"):
        cache.add(client, ("plan", client), KEYS, 1)
    assert names_in(cache, "a", "b", "c") == ["b", "c"]


def test_a_set_larger_than_the_cache_is_kept_until_the_next() -> None:
    cache = KeyCache(1)
    cache.add("a", ("plan", "large"), KEYS, 100)
    assert names_in(cache, "large") == ["large"]
    cache.add("a", ("plan", "small"), KEYS, 1)
    assert names_in(cache, "large", "small") == ["small"]


def test_a_set_that_is_added_again_is_charged_once() -> None:
    cache = KeyCache(2)
    for name in ("1", "2", "2", "2"):
        cache.add("a", ("plan", name), KEYS, 1)
    assert names_in(cache, "1", "2") == ["1", "2"]


@pytest.mark.parametrize("capacity", [0, 5, 12])
@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 6), st.integers(1, 4)), max_size=60))
def test_what_is_kept_fits_and_no_client_loses_to_one_that_has_more_to_give(
    capacity: int, added: list[tuple[str, int, int]]
) -> None:
    cache = KeyCache(capacity)
    kept: dict[str, dict[str, int]] = {client: {} for client in "abc"}
    for client, number, size in added:
        name = f"{client}{number}"
        before = {each: sum(sets.values()) for each, sets in kept.items()}
        cache.add(client, ("plan", name), KEYS, size)
        kept[client][name] = size
        lost = [
            (each, held)
            for each, sets in kept.items()
            for held in list(sets)
            if held != name and not names_in(cache, held)
        ]
        for each, held in lost:
            del kept[each][held]
        total = sum(sum(sets.values()) for sets in kept.values())
        assert total <= capacity or sum(len(sets) for sets in kept.values()) == 1
        if lost and client not in {each for each, _ in lost} and len(kept[client]) > 1:
            assert max(before[each] for each, _ in lost) >= sum(kept[client].values())
