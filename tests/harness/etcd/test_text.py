"""Bytes as text: lossless, one to one, and plain for what is plain."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from splitvote.harness.etcd.text import bytes_of, text_of


@given(st.binary())
@example(b"\xff\x00")
@example(b"base64:AAAA")
@example(b"base64:")
@example("snow ☃".encode())
@example(b"\x00")
def test_text_round_trips_through_json(raw: bytes) -> None:
    assert bytes_of(msgspec.json.decode(msgspec.json.encode(text_of(raw)))) == raw


@given(st.binary(), st.binary())
@example(b"\xff", b"base64:/w==")
def test_different_bytes_have_different_texts(one: bytes, other: bytes) -> None:
    assert (text_of(one) == text_of(other)) == (one == other)


def test_plain_text_stays_as_it_is() -> None:
    assert text_of(b"register/17") == "register/17"


def test_text_that_says_base64_and_is_not_is_refused() -> None:
    with pytest.raises(ValueError, match="base64"):
        bytes_of("base64:!")
