"""The composition root: the only place that builds everything, starts it, reloads it and takes it down.

settings -> core (model, policy) -> engine <- mailboxes <- sources          one source thread a camera
                          keeper <----+                                     one engine thread, one of the archive
                                      |
                               loop: link, watchdog, reports                one asyncio loop
"""

from __future__ import annotations

import asyncio
import random
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import structlog

from daemon import forgetting, pipeline, when
from daemon.core import Core, build
from daemon.diary.post import DiaryPost
from daemon.engine import Camera, Engine
from daemon.forgetting import Forgetting
from daemon.frigate import Frigate
from daemon.gaps import GapLog
from daemon.hass import Hass
from daemon.health import Heartbeats, Notifier, Watchdog, ping_interval_s
from daemon.job import Sinks
from daemon.keeper import Keeper, Kept
from daemon.logs import LogControl
from daemon.messages import Answer, Query
from daemon.methods import check_methods
from daemon.metrics import Counters
from daemon.mqtt import MqttLink, Reply
from daemon.outlook import Outlook
from daemon.parts import serve
from daemon.settings import CameraSettings, Settings
from daemon.switches import DISABLED, Switches
from daemon.watch.post import WatchPost
from memory.bank import MemoryBank
from stream import gate
from stream.errors import ConfigError
from stream.mailbox import Mailbox
from stream.source import Source, SourceConfig, StateChange, Surroundings
from stream.types import Frame

ENGINE_ALLOWED_S = 60.0  # a large model on a CPU may take this long over one batch
READER_ALLOWED_S = 75.0  # the longest back-off is 30 s, a hanging open twice its timeout
SWITCH_S = 0.001  # a thread that wants the interpreter waits this long for each before it: with 5 ms, loops stall
BROKER_WAIT_S = 10.0  # at start; later the daemon is ready without a broker, because it already watches


@dataclass(slots=True)
class Post:
    """One camera: its reader and what stands between it and the engine."""

    settings: CameraSettings
    source: Source
    mailbox: Mailbox[Frame]
    bank: MemoryBank
    first_frame: int
    newest: Frame | None = field(default=None)  # the last frame that was kept
    shown_s: float | None = None  # stamp of the picture that the broker keeps; None: of an earlier run, if any

    @property
    def next_frame(self) -> int:
        """A number that no frame has had."""
        return self.first_frame if self.newest is None else self.newest.index + 1


class App:
    """The running daemon. Make it on the event loop; `run` returns after `stop` or a signal."""

    def __init__(self, settings: Settings, core: Core, reread: Callable[[], Settings], logs: LogControl | None) -> None:
        self.settings, self.core = settings, core
        self.started_s = time.monotonic()
        self.answered = self.erasures = 0
        self.gaps, self.counters, self.beats = GapLog(), Counters(), Heartbeats()
        self.keeper = Keeper(settings, core, self.gaps, self.counters)
        self.gaps.on_change = self.keeper.gap
        self.notifier = Notifier.from_environment()
        self.posts: dict[str, Post] = {}
        self._reread, self.logs = reread, logs
        self.log = structlog.get_logger("longwatch.app")
        self._loop = asyncio.get_running_loop()
        self._rng = random.Random()
        self._stopped, self._reloads = asyncio.Event(), asyncio.Event()
        self.keeper.open()
        self.recaller = core.recaller(self.keeper.reader())
        outlook = Outlook(
            self._newest_s, self.gaps.between, lambda: self.beats.beat("engine"), self.keeper, pictures=self._pictures
        )
        self.engine = Engine(core.encoder, self.recaller, {}, settings.answer, outlook, self.counters)
        self.link = MqttLink(settings, self._on_query, self._rng)
        self.switches = Switches(self.link.topics, self.link.publish, self.switch, self.counters)
        self.link.listen(self.link.topics.switches, self.switches.take, kept=True)
        self.forgetting = Forgetting(
            settings.mqtt,
            self.keeper,
            self.link.topics,
            self.link.publish,
            lambda: self.settings.cameras,
            self.counters,
        )
        self.link.listen(self.link.topics.forget, self.forgetting.take, qos=0)
        self.hass = Hass(settings, self.link, self._rng)
        self.frigate = Frigate(settings, self.link.topics, self.link.publish, self.ask, self.counters)
        if settings.frigate.enabled:
            self.link.listen(self.frigate.topic, self.frigate.take)
        self.watch = WatchPost(settings, core, self.engine, self.link.publish, self.link.topics)
        self.watch.renamed = lambda: self.hass.configure(self.settings, self.watch.specs())
        self.watch.renamed()  # those that came over MQTT, in an earlier run
        self.link.listen(self.link.topics.watches, self.watch.take, kept=True)
        self.diary = DiaryPost(settings, core, self.engine, self.keeper, self.link.publish, self.link.topics, self._rng)
        self.link.listen(self.link.topics.diary, self.diary.take)
        self._link_task: asyncio.Task[None] | None = None

    # -- life ------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Watch and answer until stopped; drains before it returns."""
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self.stop)
        self._loop.add_signal_handler(signal.SIGHUP, self._reloads.set)
        self.beats.register("engine", ENGINE_ALLOWED_S)
        kept = await asyncio.to_thread(self._restore, self.settings)
        self.engine.start()
        self._set_cameras(self.settings, kept)
        self.keeper.attach(self.engine, self._on_erased)
        self._link_task = asyncio.create_task(self.link.run(), name="mqtt")
        watchdog = Watchdog(self.beats, self.notifier, interval_s=ping_interval_s(), status=self.status_line)
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(watchdog.run(), name="watchdog"),
                    group.create_task(pipeline.watch_cameras(self), name="watch-cameras"),
                    group.create_task(pipeline.report(self), name="report"),
                    group.create_task(pipeline.publish_snapshots(self), name="snapshots"),
                    group.create_task(pipeline.save_banks(self), name="save-banks"),
                    group.create_task(pipeline.watch_clock(self), name="watch-clock"),
                    group.create_task(self.watch.save_often(), name="watch-save"),
                    group.create_task(self._reload_on_signal(), name="reload"),
                    group.create_task(self._say_ready(), name="ready"),
                    group.create_task(self.hass.run(), name="home-assistant"),
                    group.create_task(self.forgetting.run(), name="forget"),
                    group.create_task(serve(self), name="http"),
                    group.create_task(asyncio.to_thread(when.prepare), name="prepare"),  # half a second
                ]
                await self._stopped.wait()
                for task in tasks:
                    task.cancel()
        finally:
            await self._drain()

    def stop(self) -> None:
        """Begin an orderly end."""
        self._stopped.set()

    def status_line(self) -> str:
        """For `systemctl status`."""
        up = sum(1 for post in self.posts.values() if post.source.stats().state == "online")
        paused = sum(1 for name in self.posts if pipeline.paused_by(self, name))
        broker = "connected" if self.link.state.connected else f"no broker ({self.link.state.reason})"
        cameras = f"{up}/{len(self.posts)} cameras" + (f" ({paused} paused)" if paused else "")
        return f"{cameras}, broker {broker}, {self.answered} answers"

    async def _say_ready(self) -> None:
        """Tell systemd. A missing broker does not hold it up for ever: the cameras are being watched already."""
        try:
            async with asyncio.timeout(BROKER_WAIT_S):
                await self.link.wait_connected()
        except TimeoutError:
            self.log.warning("ready without a broker; it is tried again for ever", reason=self.link.state.reason)
        self.notifier.ready(self.status_line())
        self.log.info("ready", cameras=len(self.posts), model=self.core.model.geometry.name)

    async def _drain(self) -> None:
        """Readers first, then what was asked, then the farewell."""
        self.notifier.stopping("finishing answers")
        await asyncio.gather(*(asyncio.to_thread(post.source.stop) for post in self.posts.values()))
        if not await asyncio.to_thread(self.engine.stop):
            self.log.error("the engine did not finish in time")
        await asyncio.to_thread(self.recaller.close)
        await asyncio.to_thread(self.diary.close)
        await asyncio.to_thread(self.watch.close)
        await asyncio.to_thread(self.keeper.close)
        for name in self.posts:
            self.link.publish_camera(pipeline.camera_state(self, name))
        await self.link.close()
        if self._link_task is not None:
            await self._link_task
        self.log.info("stopped", answered=self.answered)

    # -- questions -------------------------------------------------------------------------------------------------

    def ask(self, query: Query, sinks: Sinks) -> None:
        """On the loop: hand a question to the engine. `sinks` are called on the loop, the answer's once."""

        def chunk(text: str) -> None:
            self._loop.call_soon_threadsafe(sinks.chunk, text)

        def answer(found: Answer) -> None:
            self._loop.call_soon_threadsafe(self._answer, sinks, found)

        self.engine.ask(query, Sinks(chunk, answer))

    def _on_query(self, query: Query, reply: Reply) -> None:
        def answer(found: Answer) -> None:
            reply.answer(found)
            self.hass.answered(query, found)

        self.ask(query, Sinks(reply.chunk, answer))

    def _answer(self, sinks: Sinks, answer: Answer) -> None:
        sinks.answer(answer)
        self.answered += 1
        self.log.info("answered", id=answer.id, status=answer.status, total_ms=answer.timing.total_ms)

    # -- cameras ---------------------------------------------------------------------------------------------------

    def _restore(self, settings: Settings) -> dict[str, Kept]:
        """The memories of cameras that are not watched yet, from the disk."""
        names = [name for name, camera in settings.cameras.items() if camera.enabled and name not in self.posts]
        return {name: self.keeper.restore(name) for name in names}

    def _set_cameras(self, settings: Settings, kept: Mapping[str, Kept]) -> None:
        """Start, restart and stop readers until they are as `settings` say; memory of a kept name stays."""
        wanted = {name: item for name, item in settings.cameras.items() if item.enabled}
        for name in list(self.posts):
            post = self.posts[name]
            same_gate = settings.gate == self.settings.gate or bool(post.settings.gate)
            same_zone = settings.answer.time_zone == self.settings.answer.time_zone or post.settings.schedule is None
            if wanted.get(name) == post.settings and same_gate and same_zone:
                continue
            post.source.stop(0.0)  # its thread may go on for a moment: nobody listens to it any more
            self.beats.remove(f"camera {name}")
            del self.posts[name]
            if name in wanted:
                self._post(name, wanted[name], settings, Kept(post.bank, post.next_frame, None))
            else:
                self.gaps.down(name, time.time(), "removed")
                self.link.retire_camera(name)
                self.switches.retire(name)
        for name, camera in wanted.items():
            if name not in self.posts:
                self._post(name, camera, settings, kept[name])
        self._exchange()
        self.switches.announce(self.posts)

    def _exchange(self) -> None:
        self.engine.exchange({name: Camera(post.mailbox, post.bank) for name, post in self.posts.items()})

    def switch(self, name: str, on: bool) -> bool:
        """Stop or start a camera's reader; what it remembers can still be asked for. False: there is no such camera."""
        post, off = self.posts.get(name), self.switches.off
        if post is None:
            return False
        if on and name in off:
            off.discard(name)
            self._post(name, post.settings, self.settings, Kept(post.bank, post.next_frame, None))
            self._exchange()
        elif not on and name not in off:
            off.add(name)
            post.source.stop(0.0)
            self.beats.remove(f"camera {name}")
            last_s = post.source.stats().last_wall_s
            self.gaps.down(name, time.time() if last_s is None else last_s, DISABLED)
        self.switches.announce([name])
        self._publish_state(name)
        return True

    def _post(self, name: str, camera: CameraSettings, settings: Settings, kept: Kept) -> None:
        """Put up a reader; it goes on with the memory and the numbering of what was `kept`."""
        side = self.core.model.geometry.image_px
        part = f"camera {name}"
        config = SourceConfig(
            camera=name,
            url=camera.url,
            size=(side, side),
            loop=camera.loop,
            realtime=camera.realtime,
            timeout_s=camera.timeout_s,
            stale_after_s=camera.stale_after_s,
            options=camera.options,
            first_index=kept.next_frame,
            black_after_s=camera.black_after_s,
            frozen_after_s=camera.frozen_after_s,
            thrift=camera.thrift,
            privacy=camera.privacy,
            schedule=camera.watched(settings.answer.zone),
        )
        mailbox: Mailbox[Frame] = Mailbox(notify=self.engine.notify)

        def sink(frame: Frame) -> None:
            if name in self.switches.off:
                return  # its reader has not heard yet
            post.newest = frame
            mailbox.put(frame)

        def on_state(change: StateChange) -> None:
            if self.posts.get(name) is post and name not in self.switches.off:  # else: a stopped reader's last words
                self._on_state(post, change)

        around = Surroundings(beat=lambda: self.beats.beat(part))
        source = Source(config, gate.make(camera.gate or settings.gate), sink, on_state, around)
        post = Post(camera, source, mailbox, kept.bank, kept.next_frame)
        self.posts[name] = post
        if not camera.pictures:  # of an earlier configuration
            self.link.clear_snapshot(name)
            self.link.desk.ledger.hide(name)
            self.hass.hide(name)
        if name not in self.switches.off:
            self.beats.register(part, READER_ALLOWED_S)
            source.start()

    def _on_state(self, post: Post, change: StateChange) -> None:
        """In a camera's thread: remember the gap, tell the broker."""
        self.gaps.follow(change, post.source.stats().last_wall_s)
        self._loop.call_soon_threadsafe(self._publish_state, change.camera)

    def _publish_state(self, camera: str) -> None:
        if camera in self.posts:
            self.link.publish_camera(pipeline.camera_state(self, camera))

    def _on_erased(self, camera: str | None, since_s: float, until_s: float) -> None:
        """In the archive's thread."""
        self._loop.call_soon_threadsafe(forgetting.erased, self, camera, since_s, until_s)

    def _pictures(self, camera: str) -> bool:
        post = self.posts.get(camera)
        return post is not None and post.settings.pictures

    def _newest_s(self, camera: str) -> float | None:
        post = self.posts.get(camera)
        return post.source.stats().last_wall_s if post else None

    # -- reload ----------------------------------------------------------------------------------------------------

    async def _reload_on_signal(self) -> None:
        while True:
            await self._reloads.wait()
            self._reloads.clear()
            self.notifier.reloading()
            try:
                settings = await asyncio.to_thread(self._reread)
                self.reload(settings, await asyncio.to_thread(self._restore, settings))
            except ConfigError as error:
                self.log.error("reload refused; nothing was changed", reason=str(error))
            self.notifier.ready(self.status_line())

    def reload(self, settings: Settings, kept: Mapping[str, Kept]) -> None:
        """Take over `settings` whole, or raise ConfigError and change nothing. `kept`: memories of new cameras."""
        check_methods(settings)
        for section in ("mqtt", "model", "memory", "archive", "http", "home_assistant", "frigate"):
            if getattr(settings, section) != getattr(self.settings, section):
                raise ConfigError(f"{section}: this section changed, which needs a restart")
        self._set_cameras(settings, kept)
        self.engine.configure(settings.answer)
        self.link.desk.configure(settings)
        self.watch.configure(settings)
        self.diary.configure(settings)
        self.hass.configure(settings, self.watch.specs())
        self.frigate.configure(settings)
        self.settings = settings
        if self.logs is not None:
            self.logs.set_level(settings.log_level)
            self.logs.set_secrets(settings.secrets())
        self.log.info("reloaded", cameras=len(self.posts))


async def run(settings: Settings, reread: Callable[[], Settings], logs: LogControl | None = None) -> None:
    """Build everything and watch until a signal comes. Raises ModelError or ConfigError before anything started."""
    sys.setswitchinterval(SWITCH_S)
    settings.http.secret()  # a bad token file is said now, not after the model was loaded
    core = await asyncio.to_thread(build, settings)
    await App(settings, core, reread, logs).run()
