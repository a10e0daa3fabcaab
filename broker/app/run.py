"""The life of one broker process: start, run, stop.

Duty: the order of things (DESIGN section 4), signals, the exit code.
Not its duty: the parts (``build``), changing them (``reload``).
Rules:

* the operations listener opens first, so that probes are answered while Vault is away;
* the data listeners open once every credential has had its first attempt, after
  ``FIRST_ATTEMPTS`` at the latest, at once when Vault is away: without a value the answer
  is a typed 503, not a refused connection;
* SIGTERM and SIGINT stop in order, within ``stop.timeout``; a second one ends at once;
* a named task that ends unasked ends the process with ``EXIT_FAULT``.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
from collections.abc import Callable, Iterable, Iterator
from random import SystemRandom
from typing import Final

from broker import __version__
from broker.api.listeners import Listener, tend
from broker.app import translate
from broker.app.build import Broker, build
from broker.app.ending import Ending
from broker.app.floods import Sharing, record_floods, tell_floods
from broker.app.narrowing import narrowed
from broker.app.process import freeze_imports, harden
from broker.app.reload import Reload
from broker.app.tasks import Tasks
from broker.clock import Clock, SystemClock
from broker.errors import BrokerError, TaskEnded
from broker.protocol.redaction import Redactor
from broker.settings.domain import Settings
from broker.settings.environment import Advice
from broker.settings.processes import Process
from broker.telemetry import logs
from broker.telemetry.metrics import Metrics

log = logging.getLogger("broker.app")

EXIT_OK: Final = 0
EXIT_FAULT: Final = 70
"""EX_SOFTWARE of sysexits.h: a part of the broker ended unasked."""
LAST_WORDS: Final = 1.0
"""Seconds of ``stop.timeout`` kept for the last lines of the log."""
FIRST_ATTEMPTS: Final = 10.0
"""Seconds the data listeners wait for the first attempts; a healthy start takes under one."""

DRAIN: Final = 0.5
"""Part of what is left of ``stop.timeout`` in which callers may read their last answers."""


def run(
    settings: Settings,
    config_path: str,
    *,
    digest: str = "",
    advice: Iterable[Advice] = (),
    process: Process = "broker",
) -> int:
    """Run a broker until it is told to stop; returns the exit code.

    Args:
        settings: the checked configuration.
        config_path: the file it came from, watched for changes.
        digest: SHA-256 of that file's content, as ``settings.load`` told.
        advice: dangers in it that are allowed, to be said at each start.
        process: ``broker run`` or ``broker rotator``.

    Raises:
        BrokerError: the start failed.
    """
    settings = narrowed(settings, process)
    harden()
    clock, redactor = SystemClock(), Redactor()
    metrics = Metrics(settings.credentials, settings.clients, clock=clock)
    logging_set_up = logs.configure(
        settings.log.level, settings.log.format, redactor, dropped=metrics.logs_dropped
    )
    for one in advice:
        log.warning("%s. %s", one, one.remedy)
    try:
        return asyncio.run(
            _serve(
                settings,
                config_path,
                digest,
                clock=clock,
                redactor=redactor,
                metrics=metrics,
                process=process,
            )
        )
    finally:
        logging_set_up.close()


async def _serve(
    settings: Settings,
    config_path: str,
    digest: str,
    *,
    clock: Clock,
    redactor: Redactor,
    metrics: Metrics,
    process: Process,
) -> int:
    ending = Ending()
    broker = build(
        settings,
        clock=clock,
        rng=SystemRandom(),
        own_uid=os.geteuid(),
        redactor=redactor,
        metrics=metrics,
        quit_broker=lambda: ending.ask("quit"),
        process=process,
        environ=os.environ,
    )
    broker.trail.started(
        process=process, broker_version=__version__, digest=digest, host=socket.gethostname()
    )
    freeze_imports()  # a build imports what a feature asks for
    tasks = Tasks()
    reload = Reload(
        broker,
        config_path,
        digest,
        environ=os.environ,
        own_uid=os.geteuid(),
        narrow=lambda settings: narrowed(settings, process),
    )
    _signals(ending, reload.request)
    try:
        stopping = asyncio.create_task(ending.asked.wait(), name="stop")
        starting = asyncio.create_task(_start(broker, tasks, reload), name="start")
        ended = asyncio.create_task(tasks.ended(), name="supervisor")
        await asyncio.wait({starting, stopping, ended}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()  # a start that failed is told by its own error
            await asyncio.wait({stopping, ended}, return_when=asyncio.FIRST_COMPLETED)
        fault: TaskEnded | None = ended.result() if ended.done() else None
        if fault is not None:
            ending.note(fault.code, EXIT_FAULT)
        for task in (starting, stopping, ended):
            task.cancel()
        await asyncio.wait({starting, stopping, ended})
    except Exception as error:
        ending.note(error.code if isinstance(error, BrokerError) else BrokerError.code, None)
        raise
    finally:
        await shut_down(broker, tasks, ending)
    if fault is not None:
        log.critical("stopped: %s", fault)
        return EXIT_FAULT
    log.info("stopped")
    return EXIT_OK


async def _start(broker: Broker, tasks: Tasks, reload: Reload) -> None:
    log.info("starting", extra={"broker_version": __version__})
    for listener in broker.listeners:
        listener.bind()  # a conflict shows before anything else begins
    for listener in (*broker.operations, *broker.admin):
        await listener.start()
    tasks.start("listeners", tend(broker.listeners, broker.clock))
    for client in translate.clients(broker.settings):
        broker.token_files.provide(client)
    await broker.session.start()
    tasks.start("session", broker.session.run())
    tasks.start("keepers", broker.keepers.run())
    broker.keepers.start()
    if broker.session.generation is not None:
        await broker.keepers.settled(broker.clock.now() + FIRST_ATTEMPTS)
    for listener in broker.data:
        await listener.start()
    for name, work in broker.tokens.tasks() if broker.tokens else ():
        tasks.start(name, work)
    for name, work in broker.rotation.tasks() if broker.rotation else ():
        tasks.start(name, work)
    tasks.start("audit head", broker.audit_head.run())
    floods = record_floods(broker.failures, broker.service, broker.clock, *_sharing(broker))
    tasks.start("floods", floods)
    tasks.start("reload", reload.run())
    broker.health.started = True
    log.info("started", extra={"ready": broker.health.ready()})


async def shut_down(broker: Broker, tasks: Tasks, ending: Ending) -> None:
    """End all parts in order, within ``stop.timeout``."""
    clock, stop = broker.clock, broker.settings.stop
    deadline = clock.now() + stop.timeout - LAST_WORDS
    broker.health.stopping = True
    broker.service.end_waits()
    broker.events.close()
    await clock.sleep(min(stop.delay, stop.timeout))
    # A peer who reads no answer may not use up the time in which tokens and leases are revoked.
    await _stop(broker.data, clock.now() + (deadline - clock.now()) * DRAIN)
    await broker.keepers.close(deadline)
    await broker.retirer.close()
    await tasks.close()
    if broker.rotation is not None:
        await broker.rotation.close()
    await broker.session.close(deadline)
    try:
        async with asyncio.timeout(max(0.0, deadline - clock.now())):
            await broker.vault.aclose()
    except TimeoutError:
        log.warning("stopping: late answers of Vault are left to expire")
    tell_floods(broker.failures, broker.service, *_sharing(broker))
    broker.trail.stopped(reason=ending.reason or "cancelled", exit_code=ending.exit_code)
    broker.audit_head.tell()
    await broker.audit.close(deadline)
    await _stop([*broker.admin, *broker.operations], deadline)


def _sharing(broker: Broker) -> Iterator[Sharing]:
    yield broker.service
    if broker.tokens is not None:
        yield broker.tokens.records


async def _stop(listeners: list[Listener], deadline: float) -> None:
    results = await asyncio.gather(
        *(listener.stop(deadline) for listener in listeners), return_exceptions=True
    )
    for result in results:
        if isinstance(result, BaseException):
            log.error("a listener did not close", exc_info=result)


def _signals(ending: Ending, reload: Callable[[], None]) -> None:
    loop = asyncio.get_running_loop()

    def told(number: signal.Signals) -> None:
        if ending.asked.is_set():
            os._exit(128 + number)  # a second signal is a person who will not wait
        log.info("told to stop by %s", number.name)
        ending.ask(number.name)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told, number)
    with contextlib.suppress(AttributeError):  # no SIGHUP on some systems
        loop.add_signal_handler(signal.SIGHUP, reload)
