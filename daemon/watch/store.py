"""Standing questions over restarts: those that came over MQTT, and how far each had come."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Literal

import structlog
from pydantic import BaseModel, ConfigDict, ValidationError

from daemon.watch.machine import State
from daemon.watch.spec import WatchSpec

FILE = "watch.json"


class Left(BaseModel):
    """How one question was left. Another `spec` of the same name has nothing to go on with."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    spec: WatchSpec
    state: State


class Book(BaseModel):
    """The file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    v: Literal[1] = 1
    given: dict[str, WatchSpec] = {}  # over MQTT; they go before the configuration's
    left: dict[str, Left] = {}


class Store:
    """Reads at the start, writes when something changed; nowhere where `folder` is None. Raises no fault of a disk."""

    def __init__(self, folder: Path | None) -> None:
        self._path = None if folder is None else folder / FILE
        self._written = ""
        self._failed = False
        self._log = structlog.get_logger("longwatch.watch")

    def load(self) -> Book:
        """What was left; an empty book where there is none, or where it cannot be used: then it is set aside."""
        if self._path is None:
            return Book()
        try:
            return Book.model_validate_json(self._path.read_bytes())
        except FileNotFoundError:
            return Book()
        except (OSError, ValidationError) as error:
            aside = self._path.with_name(f"{FILE}.damaged-{int(time.time())}")
            reason = error.strerror if isinstance(error, OSError) else f"{error.error_count()} faults in it"
            try:
                self._path.replace(aside)
                self._log.error("saved standing questions cannot be used; set aside", reason=reason, now=aside.name)
            except OSError as stuck:
                self._path = None  # writing would overwrite what was never read
                self._log.error(
                    "saved standing questions cannot be used, nor set aside; they will not be saved",
                    reason=f"{reason}; {stuck.strerror}",
                )
            return Book()

    def save(self, book: Book) -> None:
        """Replace the file, if it would change. Blocks: not for the event loop."""
        text = book.model_dump_json(by_alias=True)
        if self._path is None or text == self._written:
            return
        partial = self._path.with_name(f"{FILE}.partial")
        try:
            partial.touch(0o600)
            with partial.open("w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(self._path)
        except OSError as error:
            if not self._failed:
                self._log.error("standing questions cannot be saved", reason=error.strerror)
            self._failed = True
            return
        self._written, self._failed = text, False
