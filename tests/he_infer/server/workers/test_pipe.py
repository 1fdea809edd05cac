"""Frames between server and worker: round trips, and refusal of malformed frames."""

from multiprocessing import Pipe

import pytest
from hypothesis import given
from hypothesis import strategies as st

from he_infer.errors import FormatError
from he_infer.server.workers import pipe

headers = st.dictionaries(
    st.text(max_size=5).filter(lambda name: name != "sizes"), st.integers() | st.text(), max_size=4
)


@given(headers, st.lists(st.binary(max_size=100), max_size=5))
def test_messages_arrive_as_they_were_sent(header: dict[str, object], parts: list[bytes]) -> None:
    here, there = Pipe()
    with here, there:
        pipe.send(here, header, [memoryview(part) for part in parts])
        assert pipe.receive(there) == (header, parts)


@given(st.binary(max_size=200))
def test_malformed_header_gives_format_error(data: bytes) -> None:
    here, there = Pipe()
    with here, there:
        here.send_bytes(data)
        with pytest.raises(FormatError):
            pipe.receive(there)


@pytest.mark.parametrize("sizes", ["[4]", "[-1,4]", '["a"]', "3", "null", "[2.5,0.5]", "[1e999]", "[true]", "[2]"])
def test_lengths_that_differ_from_the_parts_are_refused(sizes: str) -> None:
    here, there = Pipe()
    with here, there:
        here.send_bytes(('{"sizes":' + sizes + "}").encode())
        here.send_bytes(b"abc")
        with pytest.raises((FormatError, OSError)):
            pipe.receive(there)


def test_parts_beyond_the_limit_are_refused_before_they_are_read() -> None:
    here, there = Pipe()
    with here, there:
        here.send_bytes(b'{"sizes":[1099511627776]}')
        with pytest.raises(FormatError):
            pipe.receive(there, 1 << 30)
