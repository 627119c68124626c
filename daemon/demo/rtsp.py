"""The little of RTSP 1.0 (RFC 2326) that a camera with RTP inside the TCP connection needs. No state, no sockets."""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

MAX_REQUEST_BYTES = 16 << 10
_PHRASES = {
    200: "OK",
    401: "Unauthorized",
    404: "Not Found",
    453: "Not Enough Bandwidth",
    461: "Unsupported Transport",
    501: "Not Implemented",
}


@dataclass(frozen=True, slots=True)
class Request:
    """One request; header names in lower case."""

    method: str
    url: str
    headers: Mapping[str, str]

    @property
    def name(self) -> str:
        """The served name: the first part of the path, whatever track stands behind it."""
        return urlsplit(self.url).path.strip("/").split("/")[0]

    @property
    def channel(self) -> int | None:
        """The interleaved channel that SETUP asks for; None when it asks for UDP."""
        found = re.search(r"RTP/AVP/TCP.*?interleaved=(\d{1,3})", self.headers.get("transport", ""))
        return int(found[1]) & 0xFE if found else None


async def read_request(reader: asyncio.StreamReader) -> Request | None:
    """The next request; RTCP reports in between are skipped. None at the end, or when it is not RTSP."""
    try:
        while (first := await reader.readexactly(1)) == b"$":
            _, size = await reader.readexactly(1), await reader.readexactly(2)
            await reader.readexactly(int.from_bytes(size, "big"))
        head = first + await reader.readuntil(b"\r\n\r\n")
        if len(head) > MAX_REQUEST_BYTES:
            return None
        line, *rest = head.decode("utf-8", "replace").split("\r\n")
        headers = {key.strip().lower(): value.strip() for key, _, value in (row.partition(":") for row in rest) if key}
        length = headers.get("content-length", "0")
        await reader.readexactly(int(length) if length.isdigit() and int(length) < MAX_REQUEST_BYTES else 0)
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        return None
    parts = line.split()
    return Request(parts[0], parts[1], headers) if len(parts) == 3 and parts[2].startswith("RTSP/") else None


def response(request: Request, status: int, headers: Mapping[str, str] | None = None, body: str = "") -> bytes:
    """An answer to `request`, with its sequence number."""
    rows = [f"RTSP/1.0 {status} {_PHRASES[status]}", f"CSeq: {request.headers.get('cseq', '0')}"]
    rows += [f"{key}: {value}" for key, value in (headers or {}).items()]
    rows += ["Session: longwatch;timeout=60", f"Content-Length: {len(body.encode())}", "", body]
    return "\r\n".join(rows).encode()


def session_description(parameter_sets: tuple[bytes, ...]) -> str:
    """The SDP of one H.264 track with its parameter sets."""
    profile = parameter_sets[0][1:4].hex()
    sets = ",".join(base64.b64encode(nal).decode() for nal in parameter_sets)
    rows = (
        "v=0",
        "o=- 0 0 IN IP4 127.0.0.1",
        "s=longwatch demo camera",
        "c=IN IP4 0.0.0.0",
        "t=0 0",
        "a=control:*",
        "m=video 0 RTP/AVP 96",
        "a=rtpmap:96 H264/90000",
        f"a=fmtp:96 packetization-mode=1;profile-level-id={profile};sprop-parameter-sets={sets}",
        "a=control:track0",
        "",
    )
    return "\r\n".join(rows)


def interleaved(channel: int, packet: bytes) -> bytes:
    """An RTP packet as it stands inside the TCP connection."""
    return b"$" + bytes((channel,)) + len(packet).to_bytes(2, "big") + packet


def basic_auth(user: str, password: str) -> str:
    """The Authorization header that a client with these credentials sends."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
