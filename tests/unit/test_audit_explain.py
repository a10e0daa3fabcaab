"""One request, told in sentences."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from broker.audit import lifecycle, record
from broker.audit.explain import MOST, explain
from tests.support.auditing import BARE, TIME, TOKEN, WHO, chained, full, handout

LOG = [*chained(full())]
DIGEST = record.lease_digest("db/creds/x")


def told(request_id: str, log: list[bytes] | None = None, **options: object) -> str:
    return "\n".join(explain(lambda: log or LOG, request_id, **options))  # type: ignore[arg-type]


def test_a_handout_whole() -> None:
    """Who, with which token, for whom, what decided, what left, and what belongs to it."""
    assert told("r1", describe_policy=lambda name: f"permit({name})") == (
        f"{TIME}  orders-db was handed out.\n"
        "  Asked: orders (uid 10001, from 127.0.0.1), for the tool list_orders, in the MCP request "
        "42, as it claims.\n"
        "  Scoped token: st-1, on behalf of alice.\n"
        "  The tool's arguments were looked at: 2 bytes with the keyed digest "
        f"{record.argument_fields(b'0123456789abcdef0123456789abcdef', b'{}')[24:56]}.\n"
        "  Decided by: orders-by-day, p2.\n"
        "    permit(orders-by-day)\n"
        "    permit(p2)\n"
        f"  Version v-7f, number 3 in Vault, of the lease {DIGEST}; to be used until {TIME}.\n"
        "\n"
        "Related records:\n"
        f"  {TIME}  orders-db: replaced, version v-7f in place of v-7e\n"
        f"  {TIME}  Scoped token st-1 minted by orders for orders, on behalf of alice, from the "
        f"token st-0, good until {TIME}: left\n"
        f"  {TIME}  in the same MCP request: orders-db: revalidated (not_modified)\n"
        f"  {TIME}  in the same MCP request: orders-db: refusal (credential_unknown)\n"
        f"  {TIME}  orders reported that the upstream answered 401 to this version (newer)\n"
        f"  {TIME}  Scoped token st-1 revoked by orders for orders, on behalf of alice, from the "
        f"token st-0, good until {TIME}: left\n"
        f"  {TIME}  Scoped token st-1 expired by orders for orders, on behalf of alice, from the "
        f"token st-0, good until {TIME}: left"
    )


def test_a_bare_handout() -> None:
    """What is not known is not told; a tool without a token is a claim."""
    claim = record.who_fields(tool="search")
    log = [handout(TIME, "r9", "c", claim, BARE, "ok")]
    assert told("r9", log) == (
        f"{TIME}  a was handed out.\n"
        "  Asked: c, for the tool search, as it claims.\n"
        f"  Version v; to be used until {TIME}."
    )


def test_a_refusal_says_that_nothing_left() -> None:
    """The true reason is told, and that there was no value."""
    words = told("r3")
    assert "orders-db was refused with credential_unknown: not_allowed." in words
    assert "Nothing left the broker." in words
    nobody = [record.refusal_line(TIME, "r", "", "", "", "caller_unauthenticated", "no_proof")]
    assert told("r", nobody) == (
        f"{TIME}  A request was refused with caller_unauthenticated: no_proof.\n"
        "  Asked: nobody that the broker knows.\n"
        "  Nothing left the broker."
    )


def test_a_confirmation_and_a_report() -> None:
    """Neither carries a value, and both say what they are about."""
    assert "the caller's version was confirmed; no value left." in told("r2")
    assert "The upstream answered 401 to orders-db, the caller reported" in told("r4")


def test_a_minted_token() -> None:
    """The request that minted a token is told with the token's id."""
    words = told("r0")
    assert f"{TIME}  Scoped token st-1 minted by orders for orders" in words
    assert "orders-db was handed out" not in words


def test_a_request_that_no_record_names() -> None:
    """Nothing is told, not even when the id stands in another member."""
    assert explain(lambda: LOG, "nothing") == []
    assert explain(lambda: LOG, "orders-db") == []


def test_many_related_records_are_counted() -> None:
    """A long-lived version has many reports: the first are told."""
    report = record.report_line(TIME, "x", "c", "", "a", "v", 401, "conflict")
    log = [handout(TIME, "r", "c", "", BARE, "ok"), *[report] * (MOST + 7)]
    assert told("r", log).endswith("\n  and 7 more")


def test_other_tokens_and_versions_do_not_join() -> None:
    """The same version's name of another credential, or another token, is another story."""
    other = {**TOKEN, "token_id": "st-9", "parent": "", "request_id": "r8"}
    log = [
        handout(TIME, "r", "c", WHO, BARE, "ok"),
        lifecycle.token_line(TIME, "token_revoked", **other),
        record.report_line(TIME, "x", "c", "", "b", "v", 401, "conflict"),
        handout(TIME, "y", "d", record.who_fields(mcp_request_id="42"), BARE, "ok"),
    ]
    assert "Related" not in told("r", log)


@given(st.text(max_size=300), st.text(max_size=300))
def test_no_text_plays_with_the_terminal(tool: str, policy: str) -> None:
    """Whatever a caller claimed or a policy says is shown printable."""
    log = [handout(TIME, "r", "c", record.who_fields(tool=tool, policies=(policy,)), BARE, "ok")]
    for line in explain(lambda: log, "r", lambda _: policy):
        assert line.isprintable()


@given(st.recursive(st.none() | st.integers() | st.text(), st.lists, max_leaves=5), st.data())
def test_lines_of_any_other_shape_are_passed_over(value: object, data: st.DataObject) -> None:
    """A line that somebody edited never stops the story."""
    import json

    line = json.loads(LOG[4])
    member = data.draw(st.sampled_from(sorted(line.keys() - {"request_id"})))
    line[member] = value
    explain(lambda: [json.dumps(line).encode(), b"{", b"[]", *LOG], "r1")
