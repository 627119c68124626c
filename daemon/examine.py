"""Checks side by side, each bounded in time: one line per check, whatever it meets."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeVar

import structlog

from stream.errors import LongwatchError, redact

T = TypeVar("T")
Status = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the report. `way_out` is empty when nothing is wrong."""

    name: str
    status: Status
    seen: str
    way_out: str = ""


@dataclass(frozen=True, slots=True)
class Task:
    """A check that has yet to run. It may return several lines; what it raises becomes a `fail`."""

    name: str
    run: Callable[[], Awaitable[Check | list[Check]]]
    limit_s: float


async def in_thread(call: Callable[[], T]) -> T:
    """`call()` in a thread of its own, which a time limit leaves behind: neither we nor the exit wait for it."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def deliver(result: T | None, error: Exception | None) -> None:
        if future.done():
            return  # given up long ago
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]

    def work() -> None:
        try:
            outcome: tuple[T | None, Exception | None] = (call(), None)
        except Exception as error:  # noqa: BLE001  handed to the awaiting check by set_exception, which names it
            outcome = (None, error)
        with suppress(RuntimeError):  # the loop is closed: the program is ending
            loop.call_soon_threadsafe(partial(deliver, *outcome))

    threading.Thread(target=work, daemon=True, name="doctor").start()
    return await future


async def examine(
    tasks: Iterable[Task], secrets: tuple[str, ...] = (), on_check: Callable[[Check], None] = lambda _: None
) -> list[Check]:
    """All `tasks` at once; `on_check` sees every line as it comes. Lines hold none of `secrets`. Raises nothing."""

    async def one(task: Task) -> list[Check]:
        checks = [_clean(check, secrets) for check in await _bounded(task)]
        for check in checks:
            on_check(check)
        return checks

    return [check for checks in await asyncio.gather(*(one(task) for task in tasks)) for check in checks]


async def _bounded(task: Task) -> list[Check]:
    try:
        result = await asyncio.wait_for(task.run(), task.limit_s)
    except TimeoutError:
        return [Check(task.name, "fail", f"no result within {task.limit_s:g} s", "is it reachable, or very slow?")]
    except LongwatchError as error:
        return [Check(task.name, "fail", str(error))]
    except Exception as error:  # noqa: BLE001  a check's own fault must not hide what the others found
        structlog.get_logger("longwatch.doctor").exception("check failed", check=task.name)
        return [Check(task.name, "fail", f"unexpected {type(error).__name__}: {error}", "please report this")]
    return result if isinstance(result, list) else [result]


def _clean(check: Check, secrets: tuple[str, ...]) -> Check:
    seen, way_out = (" ".join(redact(text, secrets).split()) for text in (check.seen, check.way_out))
    return Check(check.name, check.status, seen, way_out)
