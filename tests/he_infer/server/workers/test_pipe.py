"""Frames between server and worker: round trips, and nothing else is taken for one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from he_infer.errors import FormatError
from he_infer.server.workers import pipe

headers = st.dictionaries(
    st.text(max_size=5).filter(lambda name: name != "sizes"), st.integers() | st.text(), max_size=4
)


@given(headers, st.lists(st.binary(max_size=100), max_size=5))
def test_frames_come_apart_as_they_were_joined(header: dict[str, object], parts: list[bytes]) -> None:
    assert pipe.decode(pipe.encode(header, parts)) == (header, parts)


@given(st.binary(max_size=200))
def test_what_is_no_frame_is_a_format_error(data: bytes) -> None:
    with pytest.raises(FormatError):
        pipe.decode(data)


@pytest.mark.parametrize("sizes", ["[4]", "[-1,4]", '["a"]', "3", "null", "[2.5,0.5]", "[1e999]"])
def test_lengths_must_add_up(sizes: str) -> None:
    head = ('{"sizes":' + sizes + "}").encode()
    with pytest.raises(FormatError):
        pipe.decode(len(head).to_bytes(4, "little") + head + b"abc")
