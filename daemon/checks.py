"""What `longwatch doctor` looks at. One function per check; each says what it saw and the way out."""

from __future__ import annotations

import asyncio
import errno
import os
import secrets
import shutil
import stat
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from daemon.doors import MAKE_ONE, HttpSettings
from daemon.examine import Check, Task, in_thread
from daemon.methods import check_methods
from daemon.settings import CameraSettings, MqttSettings, Settings, load
from stream.errors import CameraError, ConfigError, LongwatchError, ModelError

if TYPE_CHECKING:
    from stream.capture import Probe
    from stream.model import Geometry

_TCP_S, _RETAINED_S = 5.0, 1.0
_PROBE_S = 6.0  # watches long enough to see a key frame distance of more than 4 s
_BROKER_LIMIT_S, _CAMERA_LIMIT_S, _MODEL_LIMIT_S, _MACHINE_LIMIT_S = 25.0, 45.0, 300.0, 60.0
_KEYFRAME_S = 4.0
_FULL_HD_PX = 1920 * 1088  # some encoders count the padding
_GIB = 2**30


def configuration(path: Path) -> tuple[Check, Settings | None]:
    """Does the file parse, and do the methods it names exist? Without settings only the machine is checked."""
    try:
        settings = load(path)
        check_methods(settings, str(path))
    except ConfigError as error:
        return Check("configuration", "fail", str(error), "correct the file; the other checks need it"), None
    on = sum(camera.enabled for camera in settings.cameras.values())
    seen = f"{path}: {len(settings.cameras)} cameras, {on} enabled, prefix {settings.mqtt.prefix!r}"
    if on == 0:
        return Check("configuration", "warn", seen, "enable a camera: nothing would be watched"), settings
    return Check("configuration", "ok", seen), settings


def all_tasks(settings: Settings | None) -> list[Task]:
    """Every check that goes with `settings`; those of the machine alone when there are none."""
    folder = settings.archive_folder() if settings is not None and settings.archive.enabled else None
    tasks = [
        Task("memory", lambda: in_thread(memory), _MACHINE_LIMIT_S),
        Task("disk", lambda: in_thread(partial(disk, folder)), _MACHINE_LIMIT_S),
        Task("clock", lambda: in_thread(clock), _MACHINE_LIMIT_S),
    ]
    if settings is None:
        return [*tasks, Task("processor", lambda: in_thread(partial(processor, "auto", 0)), _MACHINE_LIMIT_S)]
    wanted = settings.model
    tasks.append(
        Task("processor", lambda: in_thread(partial(processor, wanted.device, wanted.threads)), _MACHINE_LIMIT_S)
    )
    tasks.append(Task("broker", partial(broker, settings.mqtt), _BROKER_LIMIT_S))
    tasks.append(Task("http", lambda: in_thread(partial(http, settings)), _MACHINE_LIMIT_S))
    for name, camera in settings.cameras.items():
        tasks.append(Task(f"camera {name}", partial(camera_opens, name, camera), _CAMERA_LIMIT_S))
    tasks.append(Task("model", lambda: in_thread(partial(model, settings)), _MODEL_LIMIT_S))
    return tasks


async def broker(settings: MqttSettings) -> list[Check]:
    """TCP, then a login with the configured protocol, then: is another longwatch online on this prefix?"""
    import aiomqtt

    from daemon.connect import Session, explain, make_client
    from daemon.topics import Topics

    place = f"{settings.host}:{settings.port}"
    begin_s = time.perf_counter()
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection(settings.host, settings.port), _TCP_S)
    except OSError as error:  # TimeoutError is one
        late = f"{place}: no answer within {_TCP_S:g} s"
        seen = late if isinstance(error, TimeoutError) else explain(error, settings)
        return [Check("broker", "fail", seen, "check mqtt.host, mqtt.port, and any firewall between")]
    tcp_ms = (time.perf_counter() - begin_s) * 1e3
    writer.close()
    try:
        begin_s = time.perf_counter()
        async with await make_client(settings, Session(f"longwatch-doctor-{secrets.token_hex(4)}")) as client:
            login_ms = (time.perf_counter() - begin_s) * 1e3
            begin_s = time.perf_counter()
            await client.subscribe(Topics(settings.prefix).available, qos=1)
            trip_ms = (time.perf_counter() - begin_s) * 1e3
            online = await _is_online(client)
    except (aiomqtt.MqttError, LongwatchError, OSError) as error:
        way_out = "see mqtt.username, mqtt.password_file, mqtt.protocol and mqtt.tls"
        return [Check("broker", "fail", explain(error, settings), way_out)]
    seen = (
        f"{place}: MQTT {settings.protocol}, TCP {tcp_ms:.1f} ms, login {login_ms:.1f} ms, round trip {trip_ms:.1f} ms"
    )
    return [Check("broker", "ok", seen), _other_daemon(settings.prefix, online)]


async def _is_online(client: object) -> bool:
    """Whether the retained `available` says `online`; a broker sends retained messages right after SUBACK."""
    messages = getattr(client, "messages")  # noqa: B009  aiomqtt is imported late, for the type as well
    try:
        message = await asyncio.wait_for(anext(messages), _RETAINED_S)
    except TimeoutError:
        return False
    return bytes(message.payload) == b"online"


def _other_daemon(prefix: str, online: bool) -> Check:
    if not online:
        return Check("prefix", "ok", f"no other longwatch is online on {prefix!r}")
    way_out = "fine if it is this one; two daemons need different mqtt.prefix and mqtt.client_id"
    return Check("prefix", "warn", f"a longwatch is online on {prefix!r}", way_out)


def http(settings: Settings) -> list[Check]:
    """Can the page be served where the settings say, or is it already; and is there a token that keeps others out?"""
    own = settings.http
    if not own.enabled:
        return [Check("http", "ok", "switched off: no page, no API, no metrics; `longwatch status` asks the broker")]
    try:
        token = own.secret()
    except ConfigError as error:
        return [Check("token", "fail", str(error), f"the daemon does not start without it; {MAKE_ONE}")]
    return [_port(settings), _token(settings.http, token)]


def _port(settings: Settings) -> Check:
    from daemon.http import bind
    from daemon.status import StatusError, over_http

    own = settings.http
    try:
        for sock in bind(own.host, own.port):
            sock.close()
    except OSError as error:
        if error.errno == errno.EACCES:
            way_out = "ports below 1024 are root's: set http.port, e.g. 8765"
        elif error.errno != errno.EADDRINUSE:
            way_out = "http.host must be an address of this machine: 127.0.0.1, or 0.0.0.0 with a token"
        else:
            return _answers(lambda: over_http(settings).status.version, own.url, StatusError)
        return Check("http", "fail", f"cannot listen at {own.url}: {error.strerror or error}", way_out)
    return Check("http", "ok", f"{own.url} is free")


def _answers(ask: Callable[[], str], url: str, refused: type[LongwatchError]) -> Check:
    """Who has the port: a Longwatch that lets us in, or somebody else."""
    try:
        return Check("http", "ok", f"Longwatch {ask()} answers at {url}")
    except refused as error:
        way_out = "end what listens there, or set another http.port; a running Longwatch needs the same token as here"
        return Check("http", "fail", f"the port is taken, and not by ours: {error}", way_out)


def _token(own: HttpSettings, token: str | None) -> Check:
    """That an exposed port has one is the configuration's to refuse."""
    who = "only this machine" if own.loopback else "other machines"
    if token is None:
        return Check("token", "ok", f"none: {who} can reach {own.url}, and everybody on it may ask and see")
    if own.token_file is not None and own.token_file.stat().st_mode & stat.S_IROTH:
        return Check("token", "warn", f"every user may read {own.token_file}", f"chmod 640 {own.token_file}")
    return Check("token", "ok", f"needed; {who} can reach {own.url}")


async def camera_opens(name: str, settings: CameraSettings) -> Check:
    """Open the camera and watch it for some seconds."""
    title = f"camera {name}"
    if not settings.enabled:
        return Check(title, "ok", "disabled in the configuration")
    from stream.capture import probe

    try:
        found = await in_thread(partial(probe, settings.url, _PROBE_S, settings.timeout_s, settings.options))
    except CameraError as error:
        return Check(title, "fail", str(error), _CAMERA_WAY_OUT.get(error.reason, _CAMERA_WAY_OUT["unreachable"]))
    advice = camera_advice(found, live="://" in settings.url and not settings.url.startswith("file:"))
    return Check(title, "warn" if advice else "ok", _describe(found), "; ".join(advice))


_CAMERA_WAY_OUT = {
    "unreachable": "does the address answer, and does the url play in ffplay or VLC from this machine?",
    "refused": "nothing listens there: check address and port, and that RTSP is switched on in the camera",
    "unauthorized": "check user and password; special signs in a password must be percent-encoded",
    "not_found": "check the path of the url, the file or the device",
    "no_video": "the source has no video: check the stream's path in the url",
    "unreadable": "is it a video file or stream that ffplay can play?",
    "frozen": "it opened, then sent nothing: restart the camera, check the network",
}


def camera_advice(found: Probe, *, live: bool) -> list[str]:
    """What would make this camera cheaper or safer to watch; empty when nothing."""
    info, advice = found.info, []
    if info.width * info.height > _FULL_HD_PX:
        advice.append("larger than 1080p costs decoding and is scaled down anyway: use the camera's sub-stream")
    if info.codec in ("hevc", "h265"):
        advice.append("HEVC costs about half as much again to decode as H.264: choose H.264 if the camera can")
    if live and (found.keyframe_s is None or found.keyframe_s > _KEYFRAME_S):
        seen = "more than the 6 s watched" if found.keyframe_s is None else f"{found.keyframe_s:.1f} s"
        advice.append(f"key frames are {seen} apart, so every reconnect starts late: set 1 or 2 s in the camera")
    if found.corrupt:
        advice.append(f"{found.corrupt} damaged frames: the network loses packets")
    return advice


def _describe(found: Probe) -> str:
    info = found.info
    keys = "" if found.keyframe_s is None else f", key frame every {found.keyframe_s:.1f} s"
    size = f"{info.width}x{info.height}"
    return f"{info.codec} {size}, {found.fps:.1f} fps{keys}; first frame after {found.first_frame_s:.1f} s"


def model(settings: Settings) -> list[Check]:
    """Load the checkpoint as the daemon would, unless that would download it."""
    from stream.model.loading import SHIPPED, open_model

    wanted = settings.model
    if (
        wanted.path not in SHIPPED
        and not Path(wanted.path).expanduser().is_dir()
        and _is_absent_from_cache(wanted.path)
    ):
        way_out = "the first start downloads it, which can take long; or give a directory in model.path"
        return [Check("model", "warn", f"{wanted.path!r} is not on this machine yet", way_out)]
    begin_s = time.perf_counter()
    try:
        opened = open_model(wanted.path, wanted.device, wanted.dtype, wanted.system_prompt, wanted.weights)
    except ModelError as error:
        return [Check("model", "fail", str(error), "see model.path, model.device and model.dtype")]
    return [_geometry(opened.geometry, time.perf_counter() - begin_s), _bank(settings, opened.geometry)]


def _is_absent_from_cache(name: str) -> bool:
    from huggingface_hub import try_to_load_from_cache

    return name.count("/") == 1 and not isinstance(try_to_load_from_cache(name, "config.json"), str)


def _geometry(found: Geometry, load_s: float) -> Check:
    kind = str(found.dtype).removeprefix("torch.")
    seen = (
        f"{found.name}: {found.layers} layers, {found.width} wide, {found.visual} visual tokens of {found.image_px} px,"
        f" {kind} on {found.device}, loaded in {load_s:.1f} s"
    )
    if not found.trained:
        return Check("model", "warn", seen, "it was not trained for carriers: answers about the past will be weak")
    return Check("model", "ok", seen)


def _bank(settings: Settings, found: Geometry) -> Check:
    carriers = settings.memory.carriers or found.carriers or 128
    cameras = sum(camera.enabled for camera in settings.cameras.values())
    each = found.carrier_bytes * (carriers + settings.memory.detail_frames * found.visual)
    seen = f"{carriers} carriers x {cameras} cameras hold {each * cameras / 2**20:.1f} MiB"
    if found.carriers is not None and carriers > found.carriers:
        way_out = f"the model was trained with {found.carriers}; set memory.carriers to that, or expect weaker answers"
        return Check("bank", "warn", seen, way_out)
    return Check("bank", "ok", seen)


def processor(device: str, threads: int) -> Check:
    """Where the model would run, whether bf16 is native there, and with how many threads."""
    import torch

    cores = os.cpu_count() or 1
    if device != "cpu" and torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        return Check("processor", "ok", f"GPU {properties.name}, {properties.total_memory / _GIB:.0f} GiB, bf16")
    if device == "cuda":
        return Check("processor", "fail", "torch sees no GPU", "driver and CUDA build of torch; or model.device: auto")
    fast = [name for name, has in _bf16().items() if has]
    used = threads or max(1, cores - 1)
    seen = f"{torch.backends.cpu.get_cpu_capability()}, {cores} cores, {used} torch threads, bf16: "
    seen += ", ".join(fast) if fast else "not native, fp32 is used"
    if used > cores:
        return Check("processor", "warn", seen, f"set model.threads to {max(1, cores - 1)} or less: threads would wait")
    return Check("processor", "ok", seen)


def _bf16() -> dict[str, bool]:
    import torch

    probes: dict[str, str] = {"AMX": "_is_amx_tile_supported", "AVX512_BF16": "_is_avx512_bf16_supported"}
    return {name: bool(getattr(torch.cpu, call, bool)()) for name, call in probes.items()}


def memory(read: Callable[[], str] = lambda: Path("/proc/meminfo").read_text(encoding="ascii")) -> Check:
    """Memory that can still be had."""
    try:
        rows = dict(line.split(":", 1) for line in read().splitlines() if ":" in line)
        free, total = (int(rows[name].split()[0]) * 1024 / _GIB for name in ("MemAvailable", "MemTotal"))
    except (OSError, KeyError, ValueError):
        return Check("memory", "warn", "cannot be read on this system", "make sure that 2 GiB are free")
    seen = f"{free:.1f} of {total:.1f} GiB available"
    if free < 1.0:
        return Check("memory", "warn", seen, "the tiny model needs about 1 GiB with torch, a 7B model 16: free some")
    return Check("memory", "ok", seen)


def disk(folder: Path | None = None) -> Check:
    """Room, and leave to write, where archive and snapshots lie; None: the working directory."""
    folder = (folder or Path()).absolute()
    there = next(place for place in (folder, *folder.parents) if place.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        seen = f"{folder} cannot be written: memory would not survive a restart"
        return Check("disk", "fail", seen, f"let the daemon's user write to {there}, or set archive.folder")
    free_gib = shutil.disk_usage(there).free / _GIB
    seen = f"{free_gib:.1f} GiB free for {folder}"
    if free_gib < 1.0:
        return Check(
            "disk", "warn", seen, "a day of one camera at 1 fps can take gigabytes: free some, or set archive.quota_gb"
        )
    return Check("disk", "ok", seen)


def clock(now_s: Callable[[], float] = time.time) -> Check:
    """Is the wall clock plausible? Every memory is stamped with it."""
    now, installed_s = now_s(), Path(__file__).stat().st_mtime
    seen = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    if now < installed_s - 86_400:
        return Check("clock", "fail", f"{seen}, which is before this program was installed", "set it, or run NTP")
    if Path("/run/systemd/timesync/synchronized").exists():
        return Check("clock", "ok", f"{seen}, synchronised")
    return Check("clock", "ok", f"{seen}, time zone {time.tzname[time.daylight and time.localtime().tm_isdst > 0]}")
