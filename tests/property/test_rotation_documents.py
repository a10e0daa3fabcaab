"""Templates and pointers: no value becomes syntax, and what was written is found."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from hypothesis import given
from hypothesis import strategies as st

from broker.errors import UpstreamError
from broker.rotation.drivers import documents
from broker.rotation.drivers.documents import RequestTemplate, filled

TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=30)


@given(TEXT)
def test_a_word_stays_one_segment_or_one_value_of_a_url(word: str) -> None:
    """Whatever an id holds, scheme, host, path and query keep their shape, and it comes back."""
    template = RequestTemplate("GET", "https://api.example/keys/{id}/x?name={id}&more=1")

    parts = urlsplit(filled(template, {"id": word}).url)

    assert (parts.scheme, parts.netloc, parts.fragment) == ("https", "api.example", "")
    start, keys, found, end = parts.path.split("/")
    assert (start, keys, unquote(found), end) == ("", "keys", word, "x")
    assert parse_qsl(parts.query, keep_blank_values=True) == [("name", word), ("more", "1")]


@given(TEXT)
def test_a_word_stays_one_text_of_a_body(word: str) -> None:
    """JSON and form give back exactly the word, in its place, as a text."""
    body: dict[str, Any] = {"a": "<{label}>", "b": [{"c": "{label}"}, 1, None, True]}
    made = filled(RequestTemplate("POST", "https://h/", body=body), {"label": word})
    assert made.content is not None
    assert json.loads(made.content) == {"a": f"<{word}>", "b": [{"c": word}, 1, None, True]}

    form = RequestTemplate("POST", "https://h/", body={"a": "{label}", "n": 1}, encoding="form")
    made = filled(form, {"label": word})
    assert made.content is not None
    assert parse_qsl(made.content.decode(), keep_blank_values=True) == [("a", word), ("n", "1")]


@given(TEXT)
def test_a_word_never_ends_a_header_line(word: str) -> None:
    """It stands in the header as it is, or the request is refused."""
    template = RequestTemplate("GET", "https://h/", headers={"x-name": "{label}"})
    try:
        made = filled(template, {"label": word})
    except UpstreamError:
        return
    assert made.headers["x-name"] == word
    assert word.isascii()
    assert not set(word) & set("\r\n\0")


def leaves(value: Any, pointer: str = "") -> list[tuple[str, Any]]:
    """Every value within a document, with its pointer."""
    found = [(pointer, value)]
    if isinstance(value, dict):
        for key, inner in value.items():
            step = key.replace("~", "~0").replace("/", "~1")
            found += leaves(inner, f"{pointer}/{step}")
    if isinstance(value, list):
        for number, inner in enumerate(value):
            found += leaves(inner, f"{pointer}/{number}")
    return found


DOCUMENTS = st.recursive(
    st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=10,
)


@given(DOCUMENTS)
def test_every_value_is_found_by_its_pointer(document: Any) -> None:
    """RFC 6901, with keys that hold slashes, tildes or nothing."""
    for pointer, value in leaves(document):
        assert documents.found(document, pointer) == value
        assert documents.is_absent(documents.found(document, f"{pointer}/absent-entirely"))


@given(st.binary(max_size=200) | DOCUMENTS.map(lambda one: json.dumps(one).encode()))
def test_any_answer_is_read_or_refused(body: bytes) -> None:
    """No body of a provider is more than an error of the port's own."""
    try:
        answer = documents.parsed(body, "a test")
        documents.secret(answer, "/a", "a test")
        documents.identifier(answer, "/b/0", "a test")
        documents.moment(answer, "/c", "unix", "a test")
    except UpstreamError:
        return
