"""From settings to an aiomqtt client, and from its exceptions to one line a person can act on."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import aiomqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from daemon.settings import MqttSettings, TlsSettings
from stream.errors import LongwatchError, redact

MAX_PACKET_BYTES = 8 * 2**20  # MQTT 5: the broker withholds larger ones; below it we answer that it is too long
RECEIVE_MAXIMUM = 64  # unacknowledged questions in flight to us; the rest wait at the broker
MAX_INCOMING = 1024  # held between the socket and us; reached by a flood of QoS 0 only
TIMEOUT_S = 10.0

_REFUSED: dict[int | None, str] = {
    1: "the broker does not speak this MQTT version; set mqtt.protocol to 3.1.1",
    132: "the broker does not speak this MQTT version; set mqtt.protocol to 3.1.1",
    2: "the broker does not accept mqtt.client_id",
    133: "the broker does not accept mqtt.client_id",
    4: "wrong user name or password; see mqtt.username and mqtt.password_file",
    134: "wrong user name or password; see mqtt.username and mqtt.password_file",
    5: "not authorised; see mqtt.username, mqtt.password_file and the broker's ACL",
    135: "not authorised; see mqtt.username, mqtt.password_file and the broker's ACL",
}
_LOST = "connection lost (the broker or the network went away, or a second daemon has the same mqtt.client_id)"
_BROKEN: tuple[tuple[type[Exception], str], ...] = (
    (ssl.SSLError, "TLS failed (certificate, key, or a port without TLS); see mqtt.tls"),
    (socket.gaierror, "unknown host; see mqtt.host"),
    (ConnectionRefusedError, "nobody listens there; is the broker running?"),
    (FileNotFoundError, "a certificate file does not exist; see mqtt.tls"),
    (PermissionError, "a certificate file may not be read; see mqtt.tls"),
)


class Client(aiomqtt.Client):
    """aiomqtt's client, with acknowledgement by hand and without the leaks of a failed connection.

    aiomqtt 2.x hides paho, which acknowledges as soon as a message is in its queue. Here a question is acknowledged
    after we took it over, so one that arrives in our last millisecond comes again.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._client.manual_ack_set(True)
        self.refused = 0  # publishes the broker accepted, then denied by its ACL (MQTT 5 only; 3.1.1 cannot say)

    def acknowledge(self, message: aiomqtt.Message) -> None:
        """Tell the broker that `message` is ours now. A broken connection is not an error: it will come again."""
        if message.qos > 0:
            self._client.ack(message.mid, message.qos)

    def last_words(self, topic: str, payload: str) -> None:
        """Publish retained without waiting; for a task that is being cancelled. A broken connection has the will."""
        self._client.publish(topic, payload, 1, True)

    def _on_publish(self, client: Any, userdata: Any, mid: int, reason_code: Any, properties: Any) -> None:
        if getattr(reason_code, "is_failure", False):
            self.refused += 1
        super()._on_publish(client, userdata, mid, reason_code, properties)

    def _on_disconnect(self, client: Any, userdata: Any, flags: Any, reason_code: Any, properties: Any = None) -> None:
        # aiomqtt waits out its timeout when the broker hangs up before accepting; paho may call from its own thread
        self._loop.call_soon_threadsafe(self._hung_up)
        if not self._connected.cancelled():  # aiomqtt asks a cancelled future for its exception, which raises
            super()._on_disconnect(client, userdata, flags, reason_code, properties)
        self._forget()  # aiomqtt drops this future unseen when the connection breaks the moment it is made

    def _on_socket_register_write(self, client: Any, userdata: Any, sock: Any) -> None:  # noqa: ARG002
        """aiomqtt names the socket by a number, to be watched in the loop's next round: by then a broker that died has
        had it closed, or the number is somebody else's. Asked for again in that round, it is watched or gone."""

        def write() -> None:
            try:
                client.loop_write()
            except (OSError, ValueError) as fault:  # the socket broke or closed: the connection ends with it
                if not self._disconnected.done():
                    self._disconnected.set_exception(fault)

        def watch() -> None:
            if (number := sock.fileno()) >= 0:
                self._loop.add_writer(number, write)

        self._loop.call_soon_threadsafe(watch)

    def _hung_up(self) -> None:
        if not self._connected.done():
            self._connected.set_exception(aiomqtt.MqttError("the broker hung up at once; does the port want TLS?"))
            self._forget()

    async def __aenter__(self) -> Self:
        try:
            await super().__aenter__()
            if not self._client.is_connected():  # accepted and hung up at once; aiomqtt would wait it out
                raise aiomqtt.MqttCodeError(None)
            return self
        except BaseException:
            self._client.disconnect()  # else the half-made connection and its housekeeping task live on
            if self._misc_task is not None:
                self._misc_task.cancel()
            self._forget()
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await super().__aexit__(kind, error, trace)
        finally:
            self._forget()

    def _forget(self) -> None:
        """Look at the end of the connection, or asyncio complains later that nobody did."""
        for future in (self._connected, self._disconnected):
            if future.done() and not future.cancelled():
                future.exception()


@dataclass(frozen=True, slots=True)
class Session:
    """How a client presents itself: the daemon keeps a session at the broker, a command-line question does not."""

    client_id: str
    persistent: bool = False
    will_topic: str | None = None


async def make_client(settings: MqttSettings, session: Session) -> Client:
    """A client that is not connected yet. Raises ConfigError (password file), OSError (certificates).

    Reads files in a thread, on each connection: renewed certificates and passwords take effect without a restart.
    """
    password, tls = await asyncio.to_thread(_secrets, settings)
    version5 = settings.protocol == "5"
    expiry_s = settings.session_expiry_s if session.persistent else 0
    kind: dict[str, Any] = {"clean_session": expiry_s == 0}
    if version5:
        kind = {"clean_start": not session.persistent, "properties": _connect_properties(expiry_s)}
    return Client(
        settings.host,
        settings.port,
        identifier=session.client_id,
        username=settings.username,
        password=password,
        protocol=aiomqtt.ProtocolVersion.V5 if version5 else aiomqtt.ProtocolVersion.V311,
        will=aiomqtt.Will(session.will_topic, b"offline", 1, True) if session.will_topic else None,
        keepalive=settings.keepalive_s,
        timeout=TIMEOUT_S,
        tls_context=tls,
        socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],  # 88 ms -> 0.5 ms per question
        max_queued_incoming_messages=MAX_INCOMING,
        logger=logging.getLogger("longwatch.mqtt.client"),
        **kind,
    )


def _secrets(settings: MqttSettings) -> tuple[str | None, ssl.SSLContext | None]:
    return settings.secret(), None if settings.tls is None else _tls(settings.tls)


class _Socket(ssl.SSLSocket):
    """Closes itself when the handshake fails: paho forgets it, once per attempt to connect."""

    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
        except OSError:
            self.close()
            raise


def _tls(settings: TlsSettings) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=settings.ca_file)
    context.sslsocket_class = _Socket
    if settings.cert_file is not None:
        context.load_cert_chain(settings.cert_file, settings.key_file, password=lambda: b"")  # never ask a terminal
    return context


def _connect_properties(expiry_s: int) -> Properties:
    properties = Properties(PacketTypes.CONNECT)
    properties.SessionExpiryInterval = expiry_s
    properties.ReceiveMaximum = RECEIVE_MAXIMUM
    properties.MaximumPacketSize = MAX_PACKET_BYTES
    return properties


def publish_properties(**values: Any) -> Properties | None:
    """MQTT 5 properties of a publish by their names in paho, e.g. ContentType; None values are left out."""
    given = {name: value for name, value in values.items() if value is not None}
    if not given:
        return None
    properties = Properties(PacketTypes.PUBLISH)
    for name, value in given.items():
        setattr(properties, name, value)
    return properties


def explain(error: BaseException, settings: MqttSettings) -> str:
    """Why there is no connection, in one redacted line that says what to look at."""
    place = f"{settings.host}:{settings.port}"
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, LongwatchError):
        return str(error)
    told = error if isinstance(error, aiomqtt.MqttCodeError) else error.__cause__  # aiomqtt nests what the broker said
    if isinstance(told, aiomqtt.exceptions.MqttConnectError):
        return f"{place}: {_REFUSED.get(getattr(told.rc, 'value', told.rc), redact(str(told)))}"
    if isinstance(told, aiomqtt.MqttCodeError):
        return f"{place}: {_LOST}"
    cause = error.__cause__ or error.__context__ or error  # aiomqtt keeps the socket's own exception as context
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"{place}: certificate not trusted: {cause.verify_message}; see mqtt.tls.ca_file"
    for kind, text in _BROKEN:
        if isinstance(cause, kind):
            return f"{place}: {text}"
    return f"{place}: {redact(' '.join(str(error).split())) or type(error).__name__}"
