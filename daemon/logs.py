"""Logs for people on a terminal, logfmt or JSON otherwise; no password in any of them.

    structlog  longwatch.* --+
    std logging (asyncio,    +--> level --> context --> traceback as text --> scrub --> renderer --> stderr
      aiomqtt, libav, ...) --+

Loggers are `structlog.get_logger("longwatch.<part>")`; values go in as keywords, not into the text. Values that hold
for a while (camera, question) are bound with `structlog.contextvars.bound_contextvars`.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable, Iterable
from functools import partial
from types import TracebackType
from typing import Any, Literal, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from daemon.scrub import Scrub
from daemon.throttle import Throttle
from stream.errors import spellings

Style = Literal["auto", "console", "logfmt", "json"]

# syslog's numbers; journald reads `<N>` at the start of a line of a service's stderr.
_PRIORITY = {"debug": 7, "info": 6, "warning": 4, "error": 3, "exception": 3, "critical": 2}
_ORDER = ("timestamp", "level", "logger", "event")
# Libraries that hang their own handler on their logger, whenever they happen to be imported.
_SELFISH = ("transformers", "huggingface_hub")


class LogControl:
    """What `setup` hands back: the level can be changed while running, and everything can be undone."""

    def __init__(self, handler: logging.Handler, scrub: Scrub) -> None:
        self._handler = handler
        self._scrub = scrub
        self._undo: list[Callable[[], None]] = []

    def set_level(self, level: str) -> None:
        """Our loggers at `level` (debug, info, warning, error); libraries at warning, or info when we debug."""
        number = logging.getLevelNamesMapping()[level.upper()]
        libraries = logging.INFO if number <= logging.DEBUG else logging.WARNING
        logging.getLogger("longwatch").setLevel(number)
        for name in ("", "libav", "py.warnings", *_SELFISH):
            logging.getLogger(name).setLevel(libraries)
        # libav says one line per damaged packet at `warning`; `error` also gives PyAV's exceptions their reason.
        if (av := sys.modules.get("av")) is not None:
            av.logging.set_level(av.logging.WARNING if number <= logging.DEBUG else av.logging.ERROR)

    def set_secrets(self, secrets: Iterable[str]) -> None:
        """Texts that no line may hold, in any spelling: the passwords of the configuration now in use."""
        self._scrub.secrets = spellings(secrets)

    def on_close(self, undo: Callable[[], None]) -> None:
        """Run `undo` at `close`, last first."""
        self._undo.append(undo)

    def close(self) -> None:
        """Put std logging, the exception hooks and structlog back as they were. For tests and the demo."""
        self._handler.flush()
        while self._undo:
            self._undo.pop()()


def setup(
    level: str = "info",
    *,
    stream: TextIO | None = None,
    style: Style = "auto",
    secrets: Iterable[str] = (),
    libav: bool = True,
) -> LogControl:
    """Send every log of the process to `stream` (default stderr), redacted. Called once, by the command line.

    `style` auto is `console` on a terminal, else `logfmt`. Lines that go to the journal carry their priority.
    `libav` imports PyAV and takes its messages in; commands that open no camera save that time.
    Uncaught exceptions of the process and of its threads are logged too, since their texts can hold a URL.
    """
    stream = sys.stderr if stream is None else stream
    scrub = Scrub(spellings(secrets))
    handler = _Handler(stream, scrub)
    handler.setFormatter(_formatter(stream, style, scrub))
    handler.addFilter(Throttle("libav"))
    control = LogControl(handler, scrub)
    _take_root(control, handler)
    _take_selfish(control)
    _take_hooks(control)
    if libav:
        _take_libav(control)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,  # the level and the whole set-up can change
    )
    control.on_close(structlog.reset_defaults)
    control.set_level(level)
    return control


class _Handler(logging.StreamHandler[TextIO]):
    """A handler whose own faults do not print the record's arguments, as std logging would."""

    def __init__(self, stream: TextIO, scrub: Scrub) -> None:
        super().__init__(stream)
        self._scrub_text = scrub.text

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  the name is std logging's
        """Say in one redacted line which record could not be written."""
        error = sys.exc_info()[1]
        try:
            self.stream.write(self._scrub_text(f"log line from {record.name} lost: {type(error).__name__}: {error}\n"))
        except (OSError, ValueError):
            return  # stderr itself is gone: there is nobody left to tell


class _Routed(logging.Logger):
    """A library's logger whose records go up to our handler only, whatever the library sets."""

    def addHandler(self, hdlr: logging.Handler) -> None:  # noqa: N802
        """Refused."""

    @property
    def propagate(self) -> bool:
        """Always: children look here on their way to the root."""
        return True

    @propagate.setter
    def propagate(self, value: bool) -> None:
        """Refused."""


def _formatter(stream: TextIO, style: Style, scrub: Scrub) -> logging.Formatter:
    journal = _is_journal(stream)
    if style == "auto":
        style = "console" if stream.isatty() else "logfmt"
    shared: list[Processor] = [structlog.stdlib.add_log_level, structlog.stdlib.add_logger_name]
    if not journal:  # the journal stamps every line itself
        local = style == "console"
        shared.append(structlog.processors.TimeStamper(fmt="%H:%M:%S" if local else "iso", utc=not local))
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[structlog.contextvars.merge_contextvars],
        processors=[
            *shared,
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            # As text, before scrubbing: the console's own traceback would print local variables, passwords too.
            structlog.processors.StackInfoRenderer(),
            structlog.processors.format_exc_info,
            scrub,
            *_renderers(style, stream.isatty()),
            *([_prefix] if journal else []),
        ],
    )


def _renderers(style: Style, colors: bool) -> list[Processor]:
    if style == "console":
        return [structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=structlog.dev.plain_traceback)]
    if style == "json":
        return [structlog.processors.JSONRenderer(ensure_ascii=False)]
    return [_flatten, structlog.processors.LogfmtRenderer(key_order=_ORDER, drop_missing=True)]


def _flatten(_logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """Nested values as `a.b=1`; logfmt has no other form for them."""
    flat: EventDict = {}
    for key, value in event.items():
        if isinstance(value, dict):
            flat.update(_flatten(None, method, {f"{key}.{name}": item for name, item in value.items()}))
        else:
            flat[key] = ",".join(str(item) for item in value) if isinstance(value, list) else value
    return flat


def _prefix(_logger: WrappedLogger, method: str, line: Any) -> Any:
    """journald's priority before every line, so that a traceback keeps the level of its event."""
    mark = f"<{_PRIORITY.get(method, 6)}>"
    return "\n".join(mark + part for part in str(line).split("\n"))


def _is_journal(stream: TextIO) -> bool:
    """Whether `stream` is the journal's. JOURNAL_STREAM is inherited by children whose stderr went elsewhere since,
    so systemd asks to compare device and inode; INVOCATION_ID alone only says that systemd is somewhere above."""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def _take_root(control: LogControl, handler: logging.Handler) -> None:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers[:] = [handler]
    logging.captureWarnings(capture=True)

    def undo() -> None:
        logging.captureWarnings(capture=False)
        root.handlers[:] = handlers
        root.setLevel(level)

    control.on_close(undo)


def _take_selfish(control: LogControl) -> None:
    for name in _SELFISH:
        logger = logging.getLogger(name)
        control.on_close(partial(setattr, logger, "__class__", logger.__class__))
        logger.__class__ = _Routed


def _take_hooks(control: LogControl) -> None:
    main, thread = sys.excepthook, threading.excepthook
    logger = structlog.get_logger("longwatch.crash")

    def on_main(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if issubclass(kind, KeyboardInterrupt):
            main(kind, error, trace)
            return
        logger.critical("uncaught exception", exc_info=(kind, error, trace))

    def on_thread(args: threading.ExceptHookArgs) -> None:
        if args.exc_value is not None and not issubclass(args.exc_type, SystemExit):
            info = (args.exc_type, args.exc_value, args.exc_traceback)
            logger.critical("uncaught exception", thread=args.thread.name if args.thread else "?", exc_info=info)

    sys.excepthook, threading.excepthook = on_main, on_thread

    def undo() -> None:
        sys.excepthook, threading.excepthook = main, thread

    control.on_close(undo)


def _take_libav(control: LogControl) -> None:
    """libav through std logging. PyAV drops its messages unless asked, and with them the reason of many exceptions."""
    import av.logging  # 0.15 s, which commands that open no camera need not pay

    before = av.logging.get_level()
    control.on_close(lambda: av.logging.set_level(before))
