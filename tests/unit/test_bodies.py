"""How the JSON of a body is read: exactly, or not at all."""

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dbservice.http.bodies import loads

from ..assertions import identical
from ..json_bodies import ALTERED, BODIES


@pytest.mark.parametrize(("body", "value"), BODIES)
def test_a_body_is_read_exactly(body: bytes, value: Any) -> None:
    assert identical(loads(body), value)


@pytest.mark.parametrize(("body", "sentence"), ALTERED, ids=lambda value: repr(value[:30]))
def test_a_body_that_would_be_altered_is_refused(body: bytes, sentence: str) -> None:
    with pytest.raises(json.JSONDecodeError, match=sentence) as refusal:
        loads(body)
    assert len(refusal.value.msg) < 150


@settings(max_examples=300, deadline=None, database=None)
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_double_is_read_back(value: float) -> None:
    for text in (
        repr(value),
        json.dumps(value),
        f"{value!r}".replace("e", "E"),
        format(Decimal(repr(value)), "f"),
    ):
        if "." in text or "e" in text.lower():
            assert identical(loads(text.encode()), value)


@settings(max_examples=500, deadline=None, database=None)
@given(st.from_regex(r"-?(0|[1-9][0-9]{0,25})(\.[0-9]{1,25})?([eE][+-]?[0-9]{1,6})?", fullmatch=True))
def test_a_number_is_exact_or_refused(text: str) -> None:
    try:
        value = loads(text.encode())
    except json.JSONDecodeError:
        return
    assert Decimal(text) == (value if isinstance(value, int) else Decimal(repr(value)))


@settings(max_examples=300, deadline=None, database=None)
@given(
    st.binary(max_size=60)
    | st.text('[]{}":,0.eE-+\\u dtrufalsn\ud800é', max_size=40).map(
        lambda s: s.encode(errors="surrogatepass")
    )
)
def test_any_bytes_are_read_or_refused_as_json(body: bytes) -> None:
    try:
        loads(body)
    except json.JSONDecodeError as refusal:
        assert refusal.msg
