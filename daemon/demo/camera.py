"""An RTSP camera that plays files, and breaks on command: for the demo, for tests, and for trying settings.

    async with DemoCamera({"street": Path("street.mp4")}) as camera:
        camera.url("street")            # rtsp://127.0.0.1:PORT/street
        camera.faults.garble_nth = 5    # every fifth RTP packet arrives damaged

    python -m daemon.demo.camera street.mp4 --port 8554      # prints `ready rtsp://...`, then reads COMMANDS

Like a real camera it plays whether or not anyone looks, and a client joins at the moment it connects; it gets the
current group of pictures at once, so that it can decode from its first packet. RTSP 1.0 (RFC 2326) with RTP inside
the TCP connection; no UDP, no audio, H.264 only.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from daemon.demo.rtp import Clip, Packetiser, load_clip
from daemon.demo.rtsp import Request, basic_auth, interleaved, read_request, response, session_description
from stream.errors import CameraError

MAX_BEHIND_BYTES = 4 << 20  # a client further behind than this misses pictures until the next key frame
_LATE_S = 1.0  # the process was stopped for longer: go on from now, do not hurry
_TICK_S = 0.02

COMMANDS = (
    "freeze | thaw | kill | down | up | drop N | garble N | jump S | clients N | slow S | switch NAME FILE | quit"
)


@dataclass(slots=True)
class Faults:
    """What is wrong with the camera; change it at any time. Zeros and None: nothing."""

    frozen: bool = False  # sends and answers nothing, keeps connections
    drop_nth: int = 0  # every nth RTP packet is lost
    garble_nth: int = 0  # every nth RTP packet is damaged
    max_clients: int | None = None  # one more is refused (453)
    describe_delay_s: float = 0.0

    async def thawed(self) -> None:
        """Wait while frozen."""
        while self.frozen:  # noqa: ASYNC110  a plain flag that any thread may set
            await asyncio.sleep(_TICK_S)


@dataclass(slots=True, eq=False)
class Viewer:
    """One connected client of one path."""

    writer: asyncio.StreamWriter
    channel: int = 0
    playing: bool = False
    behind: bool = False  # too slow: wait for the next key frame

    def send(self, packets: list[bytes], *, key: bool) -> None:
        """Queue one picture's RTP packets, or skip it when the client is too far behind."""
        if self.writer.is_closing() or not self.playing:
            return
        if self.writer.transport.get_write_buffer_size() > MAX_BEHIND_BYTES:
            self.behind = True
        elif key:
            self.behind = False
        if not self.behind:
            self.writer.write(b"".join(interleaved(self.channel, packet) for packet in packets))


class Track:
    """One served path: plays its clip in a loop to all its viewers."""

    def __init__(self, clip: Clip, faults: Faults, rng: random.Random) -> None:
        self.clip = clip
        self.viewers: set[Viewer] = set()
        self.jump_s = 0.0  # added to every pts
        self._faults = faults
        self._rng = rng
        self._packetiser = Packetiser(rng.getrandbits(32))
        self._group: list[list[bytes]] = []  # since the last key frame, for who joins now
        self._sent = 0

    def join(self, viewer: Viewer) -> None:
        """Start sending to `viewer`, from the last key frame."""
        viewer.playing = True
        for packets in self._group:
            viewer.send(packets, key=True)

    async def play(self) -> None:
        """For ever: send each picture when it is due."""
        loop = asyncio.get_running_loop()
        begin_s, played_s = loop.time(), 0.0
        while True:
            clip = self.clip
            for unit in clip.units:
                due_s = begin_s + played_s + unit.send_s
                await asyncio.sleep(max(0.0, due_s - loop.time()))
                await self._faults.thawed()
                late_s = loop.time() - due_s
                begin_s += late_s if late_s > _LATE_S else 0.0
                if self.clip is not clip:
                    break
                packets = self._packetiser.packets(unit, played_s + unit.pts_s + self.jump_s, clip.parameter_sets)
                self._send(packets, key=unit.key)
            played_s = loop.time() - begin_s if self.clip is not clip else played_s + clip.duration_s

    def _send(self, packets: list[bytes], *, key: bool) -> None:
        self._group = [packets] if key else [*self._group, packets]
        if self.viewers:
            harmed = self._harmed(packets)
            for viewer in tuple(self.viewers):
                viewer.send(harmed, key=key)

    def _harmed(self, packets: list[bytes]) -> list[bytes]:
        out = []
        for packet in packets:
            self._sent += 1
            if self._faults.drop_nth and self._sent % self._faults.drop_nth == 0:
                continue
            if self._faults.garble_nth and self._sent % self._faults.garble_nth == 0 and len(packet) > 40:
                body = bytearray(packet)
                for _ in range(1 + len(body) // 100):
                    body[self._rng.randrange(24, len(body))] ^= self._rng.randrange(1, 256)
                packet = bytes(body)
            out.append(packet)
        return out


class DemoCamera:
    """Serves H.264 `files` by name. An async context manager; `port=0` picks a free one. See `Faults`."""

    def __init__(
        self,
        files: Mapping[str, Path],
        host: str = "127.0.0.1",
        port: int = 0,
        login: tuple[str, str] | None = None,  # user, password
        rng: random.Random | None = None,
    ) -> None:
        self.faults = Faults()
        self.host, self.port = host, port
        self._files = dict(files)
        self._credentials = basic_auth(*login) if login else None
        self._rng = rng or random.Random(0)
        self._tracks: dict[str, Track] = {}
        self._players: list[asyncio.Task[None]] = []
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        """Load the files and listen. Raises CameraError for a file, OSError for the port."""
        for name, path in self._files.items():
            self._tracks[name] = Track(await asyncio.to_thread(load_clip, path), self.faults, self._rng)
        await self.up()
        self._players = [asyncio.create_task(track.play()) for track in self._tracks.values()]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.down()
        for player in self._players:
            player.cancel()
        await asyncio.gather(*self._players, return_exceptions=True)

    def url(self, name: str, login: tuple[str, str] | None = None) -> str:
        """Where `name` is served; with `login` (user, password) inside."""
        user = f"{login[0]}:{login[1]}@" if login else ""
        return f"rtsp://{user}{self.host}:{self.port}/{name}"

    async def up(self) -> None:
        """Listen, at the same port as before."""
        self._server = await asyncio.start_server(self._serve, self.host, self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def down(self) -> None:
        """Stop listening and cut all clients: the camera lost its power."""
        if self._server is not None:
            self._server.close()
            self.kill_clients()
            await self._server.wait_closed()
            self._server = None

    def kill_clients(self) -> None:
        """Cut every connection without a word."""
        for writer in tuple(self._writers):
            writer.transport.abort()

    def jump(self, seconds_s: float) -> None:
        """Shift the pts of all that is sent from now on."""
        for track in self._tracks.values():
            track.jump_s += seconds_s

    async def switch(self, name: str, path: Path) -> None:
        """Go on with another file, without a word to the clients. Raises CameraError, KeyError."""
        track = self._tracks[name]
        track.clip = await asyncio.to_thread(load_clip, path)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        viewer = Viewer(writer)
        self._writers.add(writer)
        try:
            while (request := await read_request(reader)) is not None:
                await self.faults.thawed()
                writer.write(await self._answer(request, viewer))
                await writer.drain()
                if request.method == "TEARDOWN":
                    break
                if request.method == "PLAY" and viewer in self._viewers(request.name):
                    self._tracks[request.name].join(viewer)
        except OSError:
            pass  # the client went away: nothing to tell it
        finally:
            self._writers.discard(writer)
            for track in self._tracks.values():
                track.viewers.discard(viewer)
            writer.close()

    def _viewers(self, name: str) -> set[Viewer]:
        return self._tracks[name].viewers if name in self._tracks else set()

    async def _answer(self, request: Request, viewer: Viewer) -> bytes:
        if request.method == "OPTIONS":
            return response(request, 200, {"Public": "OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN, GET_PARAMETER"})
        if self._credentials is not None and request.headers.get("authorization") != self._credentials:
            return response(request, 401, {"WWW-Authenticate": 'Basic realm="longwatch demo"'})
        track = self._tracks.get(request.name)
        if track is None:
            return response(request, 404)
        match request.method:
            case "DESCRIBE":
                return await self._describe(request, track)
            case "SETUP":
                return self._setup(request, viewer, track)
            case "PLAY" | "TEARDOWN" | "GET_PARAMETER" | "SET_PARAMETER":
                status = 200
            case _:
                status = 501
        return response(request, status)

    async def _describe(self, request: Request, track: Track) -> bytes:
        await asyncio.sleep(self.faults.describe_delay_s)
        headers = {"Content-Type": "application/sdp", "Content-Base": f"{self.url(request.name)}/"}
        return response(request, 200, headers, session_description(track.clip.parameter_sets))

    def _setup(self, request: Request, viewer: Viewer, track: Track) -> bytes:
        clients = sum(len(each.viewers) for each in self._tracks.values())
        if self.faults.max_clients is not None and clients >= self.faults.max_clients:
            return response(request, 453)
        channel = request.channel
        if channel is None:
            return response(request, 461)
        viewer.channel = channel
        track.viewers.add(viewer)
        transport = f"RTP/AVP/TCP;unicast;interleaved={channel}-{channel + 1}"
        return response(request, 200, {"Transport": transport})


async def obey(camera: DemoCamera, line: str) -> str:
    """Carry out one of COMMANDS; returns what to print. Raises EOFError for `quit`."""
    word, *rest = line.split()
    faults = camera.faults
    try:
        match word, rest:
            case "freeze" | "thaw", []:
                faults.frozen = word == "freeze"
            case "kill", []:
                camera.kill_clients()
            case "down", []:
                await camera.down()
            case "up", []:
                await camera.up()
            case "drop", [count]:
                faults.drop_nth = int(count)
            case "garble", [count]:
                faults.garble_nth = int(count)
            case "clients", [count]:
                faults.max_clients = int(count)
            case "slow", [seconds_s]:
                faults.describe_delay_s = float(seconds_s)
            case "jump", [seconds_s]:
                camera.jump(float(seconds_s))
            case "switch", [name, file]:
                await camera.switch(name, Path(file))
            case "quit", []:
                raise EOFError
            case _:
                return f"unknown command {line.strip()!r}; known: {COMMANDS}"
    except (ValueError, KeyError, OSError, CameraError) as error:
        return f"failed {line.strip()!r}: {error}"
    return f"ok {line.strip()}"


async def _run(arguments: argparse.Namespace) -> None:
    files = {}
    for text in arguments.files:
        name, _, path = text.rpartition("=")
        files[name or Path(path).stem] = Path(path)
    login = (arguments.user, arguments.password or "") if arguments.user else None
    lines: asyncio.Queue[str] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def listen() -> None:  # a daemon thread: a blocked read of stdin must not hold up the end
        for line in sys.stdin:
            loop.call_soon_threadsafe(lines.put_nowait, line)

    async with DemoCamera(files, arguments.host, arguments.port, login) as camera:
        for name in files:
            print(f"ready {camera.url(name)}", flush=True)
        threading.Thread(target=listen, name="stdin", daemon=True).start()
        with suppress(EOFError):
            while True:
                line = await lines.get()
                if line.strip():
                    print(await obey(camera, line), flush=True)


def main() -> None:
    """Serve the files of the command line until `quit` or Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m daemon.demo.camera", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("files", nargs="+", metavar="[NAME=]FILE", help="H.264 video; served as its stem, or as NAME")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8554)
    parser.add_argument("--user")
    parser.add_argument("--password")
    with suppress(KeyboardInterrupt):
        try:
            asyncio.run(_run(parser.parse_args()))
        except (CameraError, OSError) as error:
            sys.exit(f"cannot serve: {error}")


if __name__ == "__main__":
    main()
