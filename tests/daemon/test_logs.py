"""No password reaches the stream, whatever carries it; and the stream is what journald and people expect."""

from __future__ import annotations

import io
import json
import logging
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import quote

import pytest
import structlog
from hypothesis import example, given, settings
from hypothesis import strategies as st

from daemon import logs
from daemon.throttle import Throttle
from stream.errors import CameraError, redact, spellings

URL = "rtsp://user:{}@cam.local:554/live?channel=1"
# Every printable sign but the blank, which no URL holds; the nasty ones come up often.
PASSWORDS = st.text(
    st.one_of(st.sampled_from("@:/?#%&='\"\\[]$"), st.characters(min_codepoint=33, max_codepoint=126)), min_size=1
)


@pytest.fixture
def out() -> io.StringIO:
    return io.StringIO()


@pytest.fixture(params=["console", "logfmt", "json"])
def control(request: pytest.FixtureRequest, out: io.StringIO) -> Iterator[logs.LogControl]:
    control = logs.setup("debug", stream=out, style=request.param)
    yield control
    control.close()


@dataclass
class Box:
    url: str
    password: str = "hunter2hunter2"


@settings(deadline=None)
@given(PASSWORDS)
@example("p@ss:w/o?r#d%40")
@example("@")
@example("//")
def test_redact_hides_every_raw_password_and_keeps_the_host(password: str) -> None:
    assert redact(URL.format(password)) == "rtsp://***@cam.local:554/live?channel=1"
    text = f"[Errno 111] Connection refused: '{URL.format(password)}'; last error log: [tcp] port 554"
    assert redact(text) == redact(text.replace(password + "@cam", "x@cam", 1))


@settings(deadline=None)
@given(st.text(min_size=1))
def test_redact_hides_every_encoded_password(password: str) -> None:
    assert redact(URL.format(quote(password, safe=""))) == "rtsp://***@cam.local:554/live?channel=1"


@settings(deadline=None)
@given(st.text(min_size=4).filter(lambda text: text.strip("*")))
def test_a_known_secret_is_hidden_in_every_spelling(password: str) -> None:
    secrets = spellings([password])
    for text in (password, quote(password, safe=""), repr(password)[1:-1], json.dumps(password)[1:-1]):
        assert redact(f"<{text}>", secrets) == "<***>"


@settings(deadline=None)
@given(st.text())
def test_redact_never_fails_and_is_stable(text: str) -> None:
    assert redact(redact(text)) == redact(text)


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("http://h/x?user=a&password=zz%20z&y=1", "http://h/x?user=a&password=***&y=1"),
        ("{'password': 'a\\'b c', 'z': 1}", "{'password': ***, 'z': 1}"),
        ('{"mqtt":{"api_key":"x y"}}', '{"mqtt":{"api_key":***}}'),
        ("Authorization: Digest username=x, response=y", "Authorization: ***"),
        ("http://x/?q=rtsp%3A%2F%2Fu%3Ap%40h%2Fx", "http://x/?q=rtsp%3A%2F%2F***%40h%2Fx"),
        ("rtsp://u:cut-off-by-a-limi", "rtsp://***"),
        ("rtsp://u:pa ss@host/x refused", "rtsp://***@host/x refused"),
        ("a rtsp://u:p@h:1/x b rtsp://u:p@i:2/y", "a rtsp://***@h:1/x b rtsp://***@i:2/y"),
    ],
)
def test_redact_shapes(text: str, hidden: str) -> None:
    assert redact(text) == hidden


@pytest.mark.parametrize(
    "text",
    [
        "rtsp://[::1]:554/a",
        "tcp://127.0.0.1:1?timeout=0 failed",
        "mqtt.password: must be a text",
        "a // b: c",
        "me@x.org",
    ],
)
def test_redact_leaves_the_rest_alone(text: str) -> None:
    assert redact(text) == text


def test_no_password_in_any_carrier(control: logs.LogControl, out: io.StringIO) -> None:
    url = URL.format("hun@ter2/x")
    log = structlog.get_logger("longwatch.test")
    text = "opening " + url
    log.info(text, url=url, raw=url.encode(), deep={"a": [{"b": (url,)}], "password": "hun@ter2/x"})
    log.info("box", box=Box(url), boxes={1: Box(url)}, kind=Box, error=OSError(url), path={url: 1})
    log.info("args %s", url)
    try:
        try:
            raise OSError(5, "refused", url)
        except OSError as error:
            raise CameraError(f"cannot open {url}") from error
    except CameraError:
        log.exception("failed")
        logging.getLogger("asyncio").exception("task %r", url)
    logging.getLogger("paho.mqtt").warning("url=%s", url, extra={"x": url})
    logging.getLogger("amqtt.broker").error(url)
    with structlog.contextvars.bound_contextvars(camera="door", source=url):
        logging.getLogger("aiomqtt").warning("in context")
    text = out.getvalue()
    assert "ter2" not in text
    assert "hun@" not in text
    assert text.count("***@cam.local") >= 10
    assert "OSError" in text
    assert "door" in text


def test_known_secrets_are_hidden_anywhere(control: logs.LogControl, out: io.StringIO) -> None:
    control.set_secrets(["correct horse"])
    structlog.get_logger("longwatch.test").warning("sent correct horse", nested=["correct%20horse"])
    assert "horse" not in out.getvalue()


def test_libav_and_broken_log_calls(control: logs.LogControl, out: io.StringIO) -> None:
    import av

    with pytest.raises(av.error.ConnectionRefusedError):
        av.open("http://user:hunter2@127.0.0.1:1/x")
    av.logging.log(av.logging.ERROR, "rtsp", "rtsp://user:hunter2@h failed")
    ours = next(handler for handler in logging.getLogger().handlers if handler.__module__ == logs.__name__)
    ours.handle(logging.LogRecord("any", logging.ERROR, "", 0, "%d", ("rtsp://user:hunter2@h",), None))
    assert "Connection to tcp://127.0.0.1:1 failed" in out.getvalue()
    assert "rtsp://***@h failed" in out.getvalue()
    assert "log line from any lost: TypeError" in out.getvalue()
    assert "hunter2" not in out.getvalue()


def test_uncaught_exceptions_of_threads_are_logged(control: logs.LogControl, out: io.StringIO) -> None:
    def fail() -> None:
        raise OSError("rtsp://user:hunter2@h")

    thread = threading.Thread(target=fail, name="reader-door")
    thread.start()
    thread.join()
    assert "reader-door" in out.getvalue()
    assert "rtsp://***@h" in out.getvalue()
    assert "hunter2" not in out.getvalue()


def test_transformers_speaks_through_us(capfd: pytest.CaptureFixture[str]) -> None:
    out = io.StringIO()
    control = logs.setup("info", stream=out, style="logfmt")
    try:
        from transformers.utils import logging as theirs

        theirs.get_logger("transformers.modeling_utils").warning("https://u:hunter2@hub/x")
    finally:
        control.close()
    assert "https://***@hub/x" in out.getvalue()
    assert capfd.readouterr().err == ""


def test_level_changes_while_running(out: io.StringIO) -> None:
    control = logs.setup("warning", stream=out, style="logfmt", libav=False)
    try:
        log = structlog.get_logger("longwatch.test")
        log.info("one")
        control.set_level("debug")
        log.debug("two")
        logging.getLogger("aiomqtt").debug("three")
        logging.getLogger("aiomqtt").info("four")
    finally:
        control.close()
    assert [word in out.getvalue() for word in ("one", "two", "three", "four")] == [False, True, False, True]


def test_journal_lines_carry_their_priority(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "journal").open("w+") as stream:
        status = os.fstat(stream.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
        for style in ("logfmt", "console"):
            control = logs.setup("info", stream=stream, style=style, libav=False)
            try:
                1 / 0  # noqa: B018
            except ZeroDivisionError:
                structlog.get_logger("longwatch.test").exception("failed")
            logging.getLogger("asyncio").warning("slow")
            control.close()
        stream.seek(0)
        lines = stream.read().splitlines()
    assert lines[0].startswith("<3>level=error logger=longwatch.test event=failed exception=")
    assert lines[1] == "<4>level=warning logger=asyncio event=slow"
    assert len(lines) > 6
    assert all(line.startswith(("<3>", "<4>")) for line in lines)


def test_json_lines_are_json(out: io.StringIO) -> None:
    control = logs.setup("info", stream=out, style="json", libav=False)
    structlog.get_logger("longwatch.test").info("x", n=1, nested={"a b": [1, b"\xff"]}, o=object())
    control.close()
    line = json.loads(out.getvalue())
    assert (line["event"], line["n"], line["nested"], line["level"]) == ("x", 1, {"a_b": [1, "\\xff"]}, "info")


def test_long_values_are_cut_after_redaction(out: io.StringIO) -> None:
    control = logs.setup("info", stream=out, style="logfmt", libav=False)
    structlog.get_logger("longwatch.test").info("x", text="a" * 16_370 + " rtsp://user:hunter2hunter2@h")
    control.close()
    assert "hunter2" not in out.getvalue()
    assert len(out.getvalue()) < 17_000


def test_close_leaves_nothing_behind(out: io.StringIO) -> None:
    root = logging.getLogger()
    before = (root.handlers[:], root.level, threading.excepthook, type(logging.getLogger("transformers")))
    logs.setup("debug", stream=out, libav=False).close()
    assert before == (root.handlers[:], root.level, threading.excepthook, type(logging.getLogger("transformers")))


def test_throttle_counts_what_it_held_back() -> None:
    now = [0.0]
    throttle = Throttle("libav", burst=2, window_s=60.0, clock=lambda: now[0])

    def passes(name: str) -> str | None:
        record = logging.LogRecord(name, logging.ERROR, "", 0, "bad %s", ("packet",), None)
        return record.getMessage() if throttle.filter(record) else None

    assert [passes("libav.h264") for _ in range(5)] == ["bad packet", "bad packet", None, None, None]
    assert passes("longwatch.engine") == "bad packet"
    now[0] = 61.0
    assert passes("libav.rtsp") == "bad packet (3 more of libav not shown)"
