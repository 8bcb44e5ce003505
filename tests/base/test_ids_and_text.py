"""Ids are of their standard's form; hostile text becomes inert."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stelsel.base.ids import is_oin, is_uuid, new_span_id, new_trace_id, parse_traceparent, traceparent, uuid7
from stelsel.base.text import inert


@given(st.floats(0, 4e9))
def test_a_uuid7_carries_its_moment_and_version(seconds: float) -> None:
    text = uuid7(seconds)
    assert is_uuid(text, 7)
    assert int(text.replace("-", "")[:12], 16) == int(seconds * 1000)


@pytest.mark.parametrize("text", ["", "x", "0193" * 8, "{00000000-0000-7000-8000-000000000000}"])
def test_what_is_no_uuid_in_canonical_form_is_refused(text: str) -> None:
    assert not is_uuid(text)


def test_a_traceparent_reads_back() -> None:
    trace, span = new_trace_id(), new_span_id()
    assert parse_traceparent(traceparent(trace, span)) == (trace, span)


@pytest.mark.parametrize("header", ["", "00-" + "0" * 32 + "-" + "1" * 16 + "-01", "01-x", "00-" + "A" * 32 + "-b-01"])
def test_a_malformed_traceparent_is_none(header: str) -> None:
    assert parse_traceparent(header) is None


@pytest.mark.parametrize("text", ["0000009900000000100", "000000990000000010000", "0000009900000000100x", "٠" * 20])
def test_what_is_no_oin_is_refused(text: str) -> None:
    assert not is_oin(text)


@given(st.text())
def test_inert_text_is_one_line_without_control_or_direction(text: str) -> None:
    shown = inert(text)
    assert shown.isprintable()
    assert len(shown.splitlines()) <= 1


def test_an_escape_sequence_and_a_bidi_override_show_as_what_they_are() -> None:
    assert inert("a\x1b[31mb\u202ec\nd") == "a\\u{1b}[31mb\\u{202e}c\\u{a}d"
