"""May this token be minted: does its caller hold all of it?

Duty: put the pairs of a wish to the authorizer that decides about hand-outs.
Not its duty: the use case (``minting``), what a parent covers (``model``).
Rules:

* a caller mints what it holds itself: each credential of the token must now be handed out to
  that caller, on behalf of that subject, for each tool of the token. ``mint_token`` is asked
  for beside that and adds nothing to it;
* a token that names no credential is for tools that the subject may call;
* an operator needs no ``mint_token``, and mints no more than the caller holds. He comes without
  an address: what is for some networks only he cannot mint;
* a glob is held when every tool is that policies could keep out of it. Each use of the token is
  decided again, so whatever else a glob covers gives nothing more;
* many credentials and tools take many turns of the loop, and all are decided by the same
  policies.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Final

from broker.access.authorizer import NEEDS_ARGUMENTS, Action, Authorizer
from broker.access.principal import Caller, Grant, Principal
from broker.access.tokens.model import Wish, require_tools
from broker.access.tokens.showing import Asker
from broker.errors import CallerForbidden

SLICE: Final = 8
"""Decisions in one turn of the loop: one takes up to a tenth of a millisecond."""
HELD_BY: Final[tuple[Action, ...]] = ("handout", "call_tool")


async def see_held(
    authorizer: Authorizer, asker: Asker, wish: Wish, caller: str, wall: float
) -> None:
    """See that whoever will show the token holds all of it, and who asks may pass it on.

    Args:
        authorizer: the one that hand-outs are decided by.
        asker: who wants the token.
        wish: what it shall be.
        caller: whom it is for.
        wall: Unix time now.

    Raises:
        CredentialUnknown, CallerForbidden, InsufficientScope: one of both is not so.
    """
    # By policy a subject may hold what its caller does not, and the other way round.
    grant = Grant("", wish.subject, caller, wish.audience, wish.tools, wish.credentials, wall, wall)
    bearer = Principal(Caller(caller, "token"), grant)
    generation = None
    while generation != authorizer.generation:  # policies changed between two turns: anew
        generation = authorizer.generation
        decisions = _decisions(authorizer, asker, wish, bearer)
        for number, _ in enumerate(decisions, 1):
            if number % SLICE == 0:
                await asyncio.sleep(0)


def _decisions(
    authorizer: Authorizer, asker: Asker, wish: Wish, bearer: Principal
) -> Iterator[None]:
    """Decide one after the other; yields after each."""
    holder, address = asker.principal, asker.address
    tools = tuple(dict.fromkeys(_told_apart(authorizer, holder, bearer, wish.tools)))
    refusal: CallerForbidden | None = None
    for name in wish.credentials:
        for tool in tools:
            try:
                authorizer.authorize(bearer, name, tool=tool, address=address)
            except CallerForbidden as error:
                refusal = refusal or error
            yield
    if (held := authorizer.tools(bearer)) is not None:
        require_tools(wish.tools, held)  # says what is missing, so it comes first
    if refusal is not None:
        raise refusal
    for tool in tools:
        if not wish.credentials:
            _may_call(authorizer, bearer, tool, address)
        if holder is not None:
            authorizer.authorize_tool(holder, tool, action="mint_token", address=address)
        yield
    if holder is None:
        return
    for name in wish.credentials:
        for tool in tools:
            authorizer.authorize(holder, name, tool=tool, action="mint_token", address=address)
            yield


def _told_apart(
    authorizer: Authorizer, holder: Principal | None, bearer: Principal, tools: tuple[str, ...]
) -> Iterator[str]:
    """The tools, and of each glob those that a policy may keep out of it."""
    for tool in tools:
        yield tool
        if "*" in tool or "?" in tool:
            for action in HELD_BY:
                yield from authorizer.samples(bearer, tool, action=action)
            if holder is not None:
                yield from authorizer.samples(holder, tool, action="mint_token")


def _may_call(authorizer: Authorizer, bearer: Principal, tool: str, address: str) -> None:
    try:
        authorizer.authorize_tool(bearer, tool, address=address)
    except CallerForbidden as error:
        if error.reason != NEEDS_ARGUMENTS:  # there are none before the call, which is decided
            raise
