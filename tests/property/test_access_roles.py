"""Roles as Cedar decides them, beside rules written down a second time in plain Python."""

from __future__ import annotations

import re
from datetime import datetime
from ipaddress import ip_address, ip_network
from zoneinfo import ZoneInfo

from hypothesis import given, settings
from hypothesis import strategies as st

from broker.access.policies import Policies
from broker.access.policy import PolicyAuthorizer
from broker.access.policy_sources import PolicyFile, Sources, Target
from broker.access.principal import Caller, Grant, Principal
from broker.access.roles import Role, Window
from broker.access.vocabulary import ACTIONS, DAYS, Question, Vocabulary
from broker.errors import CallerForbidden, CredentialUnknown
from tests.simulators.clock import ManualClock

CREDENTIALS = {
    "web": Target("kv", "secret", "mcp/web"),
    "maps": Target("kv", "secret", "mcp/deep/maps"),
    "orders": Target("leased", "", "database/creds/orders"),
}
CALLERS = ("one", "two")
SUBJECTS = ("ann@x.example", "bob@y.example")
TOOLS = ("search.web", "search", "orders.list", 'odd"\\tool')
ZONES = ("UTC", "Europe/Zurich", "Asia/Kolkata")
ADDRESSES = ("", "127.0.0.1", "10.1.2.3", "::ffff:10.1.2.3", "fd00::7")

# --- the rules once more ------------------------------------------------------------


def glob(pattern: str, text: str) -> bool:
    """``*`` is any text, ``?`` one character."""
    parts = {"*": ".*", "?": "."}
    return bool(re.fullmatch("".join(parts.get(c, re.escape(c)) for c in pattern), text, re.DOTALL))


def path_glob(pattern: list[str], path: list[str]) -> bool:
    """Component by component."""
    if not pattern:
        return not path
    if pattern[0] == "**":
        return any(path_glob(pattern[1:], path[n:]) for n in range(len(path) + 1))
    return bool(path) and glob(pattern[0], path[0]) and path_glob(pattern[1:], path[1:])


def in_window(window: Window, wall: float) -> bool:
    """Minute by minute, back to where a span would have begun."""
    local = datetime.fromtimestamp(wall, ZoneInfo(window.zone))
    minute, day = local.hour * 60 + local.minute, local.weekday()
    if window.start < window.end:
        return DAYS[day] in window.days and window.start <= minute < window.end
    if minute >= window.start:
        return DAYS[day] in window.days
    return minute < window.end and DAYS[day - 1] in window.days


def in_network(network: str, address: str) -> bool:
    if not address:
        return False
    one = ip_address(address)
    one = getattr(one, "ipv4_mapped", None) or one
    return one in ip_network(network)


def role_allows(role: Role, asked: Question) -> bool:
    """What docs/policy.md says of a role."""
    if not role.callers and not role.subjects:
        return False
    if role.callers and asked.caller not in role.callers:
        return False
    if role.subjects and not (asked.subject and any(glob(s, asked.subject) for s in role.subjects)):
        return False
    if "admin" not in role.actions and asked.action not in role.actions:
        return False
    granted = {
        name
        for name, one in CREDENTIALS.items()
        if name in role.credentials
        or any(
            path_glob(p.split("/"), f"{one.mount}/{one.path}".strip("/").split("/"))
            for p in role.paths
        )
    }
    if asked.about_tool:
        if not granted and not role.tools:
            return False
    elif asked.resource not in granted:
        return False
    if role.tools and not (asked.tool and any(glob(t, asked.tool) for t in role.tools)):
        return False
    if role.times and not any(in_window(one, asked.wall) for one in role.times):
        return False
    return not role.addresses or any(in_network(n, asked.address) for n in role.addresses)


def list_allows(lists: dict[str, tuple[str, ...]], asked: Question) -> bool:
    """A list is for any tool, and never for rotating."""
    mine = lists.get(asked.caller, ())
    if asked.action == "rotate" or not mine:
        return False
    return asked.about_tool or asked.resource in mine


# --- any roles, any question ----------------------------------------------------------


def some(*values: str) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(st.sampled_from(values), unique=True, max_size=3).map(tuple)


windows = st.builds(
    Window,
    zone=st.sampled_from(ZONES),
    days=st.lists(st.sampled_from(DAYS), unique=True, min_size=1).map(tuple),
    start=st.integers(0, 1439),
    end=st.integers(1, 1440),
).filter(lambda window: window.start != window.end)
roles = st.lists(
    st.builds(
        Role,
        name=st.sampled_from(["a", "b", "c.d", "e-f"]),
        callers=some(*CALLERS),
        subjects=some("*", "ann@x.example", "*@y.example", "?nn@*"),
        tools=some(*TOOLS, "*", "search*", "*.list", '*"*', "**"),
        credentials=some(*CREDENTIALS),
        paths=some(
            "secret/*/web", "secret/**", "database/creds/*", "**", "**/maps", "secret/mcp/*"
        ),
        times=st.lists(windows, max_size=2).map(tuple),
        addresses=some("10.0.0.0/8", "127.0.0.0/8", "fd00::/8", "0.0.0.0/0"),
        actions=some(*ACTIONS, "admin").filter(bool),
    ),
    max_size=4,
    unique_by=lambda role: role.name,
).map(tuple)
lists = st.fixed_dictionaries({name: some(*CREDENTIALS) for name in CALLERS})


@st.composite
def questions(draw: st.DrawFn) -> Question:
    action = draw(st.sampled_from(ACTIONS))
    about_tool = action == "call_tool" or (action == "mint_token" and draw(st.booleans()))
    tool = draw(st.sampled_from(TOOLS if about_tool else ("", *TOOLS)))
    return Question(
        caller=draw(st.sampled_from((*CALLERS, "stranger"))),
        action=action,
        resource=tool if about_tool else draw(st.sampled_from(list(CREDENTIALS))),
        about_tool=about_tool,
        subject=draw(st.sampled_from((None, *SUBJECTS))),
        tool=tool,
        address=draw(st.sampled_from(ADDRESSES)),
        wall=draw(st.integers(1_700_000_000, 1_800_000_000)),
        arguments={} if about_tool else None,
    )


def compiled(
    found: tuple[Role, ...], listed: dict[str, tuple[str, ...]], cedar: str = ""
) -> Policies:
    zones = dict.fromkeys(window.zone for role in found for window in role.times)
    return Policies(
        Sources(
            clients=listed,
            credentials=CREDENTIALS,
            roles=found,
            files=(PolicyFile("p.cedar", cedar),),
            vocabulary=Vocabulary(zones=tuple(zones), arguments={"database": "text"}),
        )
    )


@settings(max_examples=100, deadline=None)
@given(roles, lists, st.lists(questions(), min_size=5, max_size=12))
def test_roles_and_cedar_agree(
    found: tuple[Role, ...], listed: dict[str, tuple[str, ...]], asked: list[Question]
) -> None:
    """The deciding function says of roles and lists what the plain rules say."""
    policies = compiled(found, listed)
    for one in asked:
        expected = {f"roles.{role.name}" for role in found if role_allows(role, one)}
        if list_allows(listed, one):
            expected.add(f"clients.{one.caller}")
        if one.caller not in listed:
            expected = set()
        verdict = policies.decide(one)
        assert (verdict.allowed, set(verdict.policies)) == (bool(expected), expected)


@settings(max_examples=60, deadline=None)
@given(roles, lists, st.lists(questions(), min_size=5, max_size=12))
def test_what_is_permitted_is_listed_and_its_tool_told(
    found: tuple[Role, ...], listed: dict[str, tuple[str, ...]], asked: list[Question]
) -> None:
    """A caller sees each credential that it can get, and each tool that it can name."""
    policies = compiled(found, listed)
    for one in asked:
        if not policies.decide(one).allowed:
            continue
        if one.action in {"handout", "read_status"}:
            assert one.resource in policies.listing.visible(one.caller, one.subject)
        tools = policies.tools(one.caller, one.subject)
        if one.tool:
            assert tools is None or any(glob(tool, one.tool) for tool in tools)


@settings(max_examples=60, deadline=None)
@given(roles, lists)
def test_what_is_listed_can_be_had(
    found: tuple[Role, ...], listed: dict[str, tuple[str, ...]]
) -> None:
    """A credential is listed where a role or list of the caller's names it, and nowhere else."""
    policies = compiled(found, listed)
    for caller in CALLERS:
        for subject in (None, *SUBJECTS):
            expected = set(listed[caller])
            for role in found:
                open_role = Role(
                    role.name,
                    role.callers,
                    role.subjects,
                    credentials=role.credentials,
                    paths=role.paths,
                    actions=role.actions,
                )
                for name in CREDENTIALS:
                    for action in ("handout", "read_status"):
                        if role_allows(open_role, Question(caller, action, name, subject=subject)):
                            expected.add(name)
            assert set(policies.listing.visible(caller, subject)) == expected


# --- kept verdicts ---------------------------------------------------------------------

CEDAR = (
    'permit (principal, action, resource == Credential::"maps") when { context.tool like "s*" };',
    (
        'forbid (principal in Caller::"one", action, resource) when { context.weekday == '
        'Weekday::"sun" };'
    ),
    (
        'forbid (principal in Caller::"two", action == Action::"handout", resource == '
        'Credential::"web");'
    ),
    (
        "forbid (principal, action, resource is Credential) when { context has address && "
        "context.address.isLoopback() };"
    ),
    (
        "permit (principal is Subject, action, resource) when { resource is Credential && "
        'resource.path like "mcp/*" && context.caller == Caller::"two" };'
    ),
    (
        'forbid (principal, action == Action::"call_tool", resource) when { '
        'context.arguments has database && context.arguments.database == "prod" };'
    ),
    (
        'forbid (principal, action, resource) unless { context.time >= duration("6h") || '
        "!(context has subject) };"
    ),
)


def answered(authorizer: PolicyAuthorizer, one: Question, clock: ManualClock) -> object:
    """The answer of the port, refusals included."""
    clock.offset = one.wall - clock.time
    grant = one.subject and Grant(
        "id", one.subject, one.caller, "", ("*",), tuple(CREDENTIALS), 0.0, 9e9
    )
    principal = Principal(Caller(one.caller, "token"), grant or None)
    try:
        if one.about_tool:
            return authorizer.authorize_tool(
                principal,
                one.resource,
                action=one.action,  # type: ignore[arg-type]
                address=one.address,
                arguments=one.arguments,
            )
        decision = authorizer.authorize(
            principal,
            one.resource,
            tool=one.tool,
            action=one.action,  # type: ignore[arg-type]
            address=one.address,
        )
    except (CallerForbidden, CredentialUnknown) as refusal:
        return type(refusal).__name__, refusal.reason
    return decision.key, decision.policies


@settings(max_examples=60, deadline=None)
@given(roles, lists, st.lists(st.sampled_from(CEDAR), unique=True), st.lists(questions()))
def test_a_list_of_names_is_each_name_asked_by_itself(
    found: tuple[Role, ...],
    listed: dict[str, tuple[str, ...]],
    cedar: list[str],
    asked: list[Question],
) -> None:
    """With files too; and what is permitted is listed then as well."""
    policies = compiled(found, listed, "\n".join(cedar))
    for caller in (*CALLERS, "stranger"):
        for subject in (None, *SUBJECTS):
            alone = [name for name in CREDENTIALS if policies.listing.lists(caller, subject, name)]
            assert policies.listing.visible(caller, subject) == tuple(sorted(alone))
    for one in asked:
        if one.action in {"handout", "read_status"} and policies.decide(one).allowed:
            assert policies.listing.lists(one.caller, one.subject, one.resource)


@settings(max_examples=80, deadline=None)
@given(
    roles,
    lists,
    st.lists(st.sampled_from(CEDAR), unique=True),
    st.lists(questions(), min_size=4, max_size=10),
    st.lists(st.sampled_from(["none", "prod", "test"]), min_size=1, max_size=3),
)
def test_kept_decisions_equal_fresh_ones(
    found: tuple[Role, ...],
    listed: dict[str, tuple[str, ...]],
    cedar: list[str],
    asked: list[Question],
    databases: list[str],
) -> None:
    """Asked twice, at other times, from elsewhere and with other arguments: never a stale one."""
    policies, clock = compiled(found, listed, "\n".join(cedar)), ManualClock()
    keeping = PolicyAuthorizer(clock, policies)
    fresh = PolicyAuthorizer(clock, policies, kept=0)
    again = [
        Question(
            one.caller,
            one.action,
            one.resource,
            about_tool=one.about_tool,
            subject=one.subject,
            tool=one.tool,
            address=other.address,
            wall=other.wall,
            arguments=one.arguments and {"database": databases[number % len(databases)]},
        )
        for one in asked
        for number, other in enumerate(asked)
    ]
    for one in [*asked, *again, *asked]:
        assert answered(keeping, one, clock) == answered(fresh, one, clock)


@settings(max_examples=80, deadline=None)
@given(roles, lists, st.lists(st.sampled_from(CEDAR), unique=True), st.lists(questions()))
def test_a_lasting_decision_holds_whenever_and_wherever_it_is_asked(
    found: tuple[Role, ...],
    listed: dict[str, tuple[str, ...]],
    cedar: list[str],
    asked: list[Question],
) -> None:
    """Who keeps it asks no more: so no time and no address may change it."""
    policies, clock = compiled(found, listed, "\n".join(cedar)), ManualClock()
    authorizer = PolicyAuthorizer(clock, policies)
    for one in asked:
        if one.about_tool or not policies.decide(one).allowed:
            continue
        if policies.reads(one):
            continue
        for other in asked:
            moved = Question(
                one.caller,
                one.action,
                one.resource,
                subject=one.subject,
                tool=one.tool,
                address=other.address,
                wall=other.wall,
            )
            assert policies.decide(moved).allowed
            assert answered(authorizer, moved, clock) == answered(authorizer, one, clock)
