"""The line to the simulated Vault: what goes wrong on it, and who called when.

Duty: switches for faults, latency and hangs; the call log; how one call goes.
Not its duty: what a call means (``vault.VaultSimulator``).
Rules:

* a request goes its own way, as in the real client's threads: its caller may be
  gone before the answer is back, and what a late answer brings is undone;
* every call is written down when it is sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf
from typing import TypeVar

from broker.clock import Clock
from broker.errors import (
    VaultError,
    VaultFailed,
    VaultMalformed,
    VaultSealed,
    VaultStandby,
    VaultThrottled,
    VaultTimeout,
    VaultUnavailable,
    VaultUnreachable,
)

T = TypeVar("T")


@dataclass
class Call:
    """One call of the port: when it was sent, what for, by which token, how it ended."""

    at: float
    operation: str
    path: str
    token: int | None
    """Number of the token, None without one or when the server never knew it."""
    outcome: str = "waiting"
    """``ok``, an error's code, ``abandoned`` (cancelled), ``waiting``."""


@dataclass(eq=False)
class Fault:
    """Something that goes wrong until it is healed or used up."""

    error: VaultError
    operation: str | None
    left: float
    after: bool
    """The server acts, and then the answer is lost."""


class Line:
    """Switches, log and the way of a call; every switch may be thrown at any moment."""

    def __init__(self, clock: Clock, *, timeout: float) -> None:
        self.calls: list[Call] = []
        self.timeout = timeout
        """Deadline of one call in seconds, as the real client has it."""
        self.latency: dict[str, float] = {}
        """Seconds an operation takes; ``""`` is the default of all."""
        self._clock = clock
        self._faults: list[Fault] = []
        self._hung: dict[str, asyncio.Event] = {}
        self._late: set[asyncio.Task[None]] = set()

    # --- switches -----------------------------------------------------------------

    def fail(self, error: VaultError, *, operation: str | None = None, times: float = inf) -> Fault:
        """Every call, or those of one operation, fail with ``error``, ``times`` or until healed."""
        fault = Fault(error, operation, times, after=False)
        self._faults.append(fault)
        return fault

    def outage(self, operation: str | None = None) -> Fault:
        """No connection."""
        return self.fail(VaultUnreachable(), operation=operation)

    def seal(self) -> Fault:
        """Sealed: all but ``health`` fail."""
        return self.fail(VaultSealed())

    def step_down(self) -> Fault:
        """A standby without a leader: all but ``health`` fail."""
        return self.fail(VaultStandby())

    def throttle(self, retry_after: float | None, operation: str | None = None) -> Fault:
        """429, with ``Retry-After`` in seconds or without."""
        return self.fail(VaultThrottled(retry_after=retry_after), operation=operation)

    def garble(self, operation: str | None = None) -> Fault:
        """Answers that no Vault gives."""
        return self.fail(VaultMalformed(), operation=operation)

    def break_down(self, operation: str | None = None) -> Fault:
        """Server errors."""
        return self.fail(VaultFailed(), operation=operation)

    def lose_answers(self, operation: str, times: float = 1) -> Fault:
        """The server acts, then the connection breaks: the client never learns of it."""
        fault = Fault(VaultUnreachable(), operation, times, after=True)
        self._faults.append(fault)
        return fault

    def heal(self, fault: Fault | None = None) -> None:
        """End one fault, or all of them and every hang."""
        if fault is None:
            self._faults.clear()
            self.resume()
        elif fault in self._faults:
            self._faults.remove(fault)

    def hang(self, operation: str = "") -> None:
        """Requests stay unanswered until ``resume``; callers get ``VaultTimeout`` meanwhile.

        What the late answers bring is revoked, as the real client does. ``""``: all operations.
        """
        self._hung.setdefault(operation, asyncio.Event())

    def resume(self) -> None:
        """Hung requests are answered now."""
        for event in self._hung.values():
            event.set()
        self._hung.clear()

    # --- the log --------------------------------------------------------------------

    def times(self, operation: str, *, since: float = -inf) -> list[float]:
        """When calls of ``operation`` were sent, rounded to milliseconds."""
        return [
            round(call.at, 3)
            for call in self.calls
            if call.operation == operation and call.at >= since
        ]

    def count(self, operation: str) -> int:
        """How many calls of ``operation`` were sent."""
        return len(self.times(operation))

    def peak_rate(self, window: float = 1.0, operation: str | None = None) -> int:
        """The most calls sent within any ``window`` seconds."""
        at = sorted(c.at for c in self.calls if operation in {None, c.operation})
        peak = start = 0
        for end, moment in enumerate(at):
            while moment - at[start] >= window:
                start += 1
            peak = max(peak, end - start + 1)
        return peak

    # --- how a call goes ---------------------------------------------------------------

    async def _send(
        self,
        operation: str,
        path: str,
        token: int | None,
        act: Callable[[], T],
        *,
        undo: Callable[[T], None] | None = None,
    ) -> T:
        """Write the call down; wait; act on the server; answer, unless a fault says otherwise."""
        call = Call(self._clock.now(), operation, path, token)
        self.calls.append(call)
        with self._outcome(call):
            await asyncio.sleep(0)
            before = self._fault(operation, after=False)
            if before is not None:
                raise before
            hung = self._hung.get(operation) or self._hung.get("")
            latency = self.latency.get(operation, self.latency.get("", 0.0))
            if hung is not None or latency > 0:
                answer = await self._wait_for_answer(call, act, undo, hung, latency)
            else:
                answer = act()
            lost = self._fault(operation, after=True)
            if lost is not None:
                raise lost
            return answer

    async def _wait_for_answer(
        self,
        call: Call,
        act: Callable[[], T],
        undo: Callable[[T], None] | None,
        hung: asyncio.Event | None,
        latency: float,
    ) -> T:
        """The request goes its own way, as in a thread; its caller may leave before it is back."""
        answered = asyncio.Event()
        result: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        left = False

        async def request() -> None:
            if hung is not None:
                await hung.wait()
            await self._clock.sleep(latency)
            try:
                answer = act()
            except VaultError as error:
                if not left:
                    result.set_exception(error)
            else:
                if not left:
                    result.set_result(answer)
                elif undo is not None:
                    undo(answer)
            answered.set()

        task = asyncio.create_task(request(), name=f"request {call.operation}")
        self._late.add(task)
        task.add_done_callback(self._late.discard)
        try:
            in_time = await self._clock.wait(answered, call.at + self.timeout)
        except asyncio.CancelledError:
            left = True
            if answered.is_set() and not result.exception() and undo is not None:
                undo(result.result())
            raise
        if not in_time:
            left = True
            raise VaultTimeout(f"no answer within {self.timeout} s")
        return await result

    @contextmanager
    def _outcome(self, call: Call) -> Iterator[None]:
        try:
            yield
        except VaultError as error:
            call.outcome = error.code
            raise
        except asyncio.CancelledError:
            call.outcome = "abandoned"
            raise
        else:
            call.outcome = "ok"

    def _fault(self, operation: str, *, after: bool) -> VaultError | None:
        for fault in self._faults:
            if fault.after != after or fault.operation not in {None, operation}:
                continue
            if operation == "health" and isinstance(fault.error, VaultSealed | VaultStandby):
                continue
            fault.left -= 1
            if fault.left <= 0:
                self._faults.remove(fault)
            # A fresh exception each time: a shared one would collect tracebacks.
            fresh = type(fault.error)(str(fault.error))
            if isinstance(fresh, VaultUnavailable) and isinstance(fault.error, VaultUnavailable):
                fresh.retry_after = fault.error.retry_after
            return fresh
        return None
