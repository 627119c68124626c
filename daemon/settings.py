"""The configuration file: one frozen pydantic model per section, unknown keys refused, errors that name key and file.

YAML, because that is what people with cameras already write. `${NAME}` in any text is replaced from the
environment; a password may also stand in a file (`password_file`) or in a systemd credential.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from dataclasses import fields
from datetime import tzinfo
from pathlib import Path
from typing import Any, Literal
from zoneinfo import ZoneInfo, available_timezones

from pydantic import BaseModel, Field, SecretStr, ValidationError, field_validator, model_validator

from daemon.diary.spec import DiarySettings
from daemon.doors import HttpSettings
from daemon.house import FrigateSettings, HomeAssistantSettings
from daemon.privacy import MaskSettings, ScheduleSettings
from daemon.stack import MemorySettings, Method, ModelSettings, Section, as_methods
from daemon.times import Speech
from daemon.watch.spec import MAX_WATCHES, WatchingSettings, WatchSpec
from daemon.yamlfile import expanded, read_yaml
from stream.doze import Thrift
from stream.errors import ConfigError
from stream.intake import Privacy
from stream.policy import nearest
from stream.schedule import ALWAYS, Schedule

NAME_PATTERN = r"^[a-z0-9_]+$"  # a camera's name is a topic level and a file name: nothing to escape, ever
RESERVED_CAMERA_NAMES = frozenset(
    {"query", "answer", "evidence", "watch", "events", "status", "available", "stats", "frigate", "forget", "diary"}
)
MQTT_CREDENTIAL = "mqtt-password"  # systemd: LoadCredential=mqtt-password:/etc/longwatch/mqtt-password


class TlsSettings(Section):
    """Encrypted connection to the broker."""

    ca_file: Path | None = Field(None, description="CA that signed the broker's certificate; default: the system's")
    cert_file: Path | None = Field(None, description="client certificate, when the broker asks for one")
    key_file: Path | None = Field(None, description="its private key; default: in `cert_file`")

    @model_validator(mode="after")
    def _pair(self) -> TlsSettings:
        if self.key_file is not None and self.cert_file is None:
            raise ValueError("`key_file` needs a `cert_file`")
        return self


class MqttSettings(Section):
    """Where questions come from and answers go."""

    host: str = Field("127.0.0.1", min_length=1, pattern=r"^[^\s/@]+$", description="a name or an address, not a URL")
    port: int = Field(1883, ge=1, le=65535, description="8883 is usual with TLS")
    prefix: str = Field(
        "longwatch", pattern=r"^[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*$", description="every topic of ours begins with it"
    )
    client_id: str = Field("longwatch", min_length=1, description="also the name of the persistent session")
    username: str | None = Field(None, description="at the broker; default: anonymous")
    password: SecretStr | None = Field(None, description="better in `password_file`, or as a systemd credential")
    password_file: Path | None = Field(None, description="its first line is the password")
    protocol: Literal["5", "3.1.1"] = Field("5", description="3.1.1 for brokers that know no MQTT 5")
    keepalive_s: int = Field(20, ge=5, le=600, description="a dead connection is noticed after 1.5 times this")
    session_expiry_s: int = Field(86_400, ge=0, description="how long the broker keeps questions while we are down")
    reply_prefixes: tuple[str, ...] = Field(
        (), description="topics outside our prefix that a reply may go to, e.g. `clients/`; ours is always allowed"
    )
    max_payload_bytes: int = Field(65_536, ge=256, description="a longer question is refused")
    max_outgoing: int = Field(10_000, ge=16, description="messages held while the broker is away")
    forget: bool = Field(
        False, description="true: who may publish to `<prefix>/forget` may erase what was seen; see privacy.md"
    )
    tls: TlsSettings | None = Field(None, description="`{}` is TLS with the system's CAs; default: no TLS")

    @field_validator("reply_prefixes")
    @classmethod
    def _plain_topics(cls, prefixes: tuple[str, ...]) -> tuple[str, ...]:
        for prefix in prefixes:
            if not prefix or set(prefix) & set("#+\0") or prefix.startswith(("$", "/")):
                raise ValueError(f"{prefix!r} is no start of a topic; give plain text such as 'clients/'")
        return prefixes

    @model_validator(mode="after")
    def _one_password(self) -> MqttSettings:
        if self.password is not None and self.password_file is not None:
            raise ValueError("give `password` or `password_file`, not both")
        if self.username is None and (self.password is not None or self.password_file is not None):
            raise ValueError("`password` needs a `username`")
        return self

    def secret(self) -> str | None:
        """The password from the setting, the file or the systemd credential; None: there is none.

        Raises ConfigError for a file that is missing or empty. An empty credential is none: the unit ships one as
        its default, so that it starts without.
        """
        if self.password is not None:
            return self.password.get_secret_value()
        if self.password_file is not None:
            if text := _first_line(self.password_file):
                return text
            raise ConfigError(f"mqtt.password_file: {self.password_file} is empty; write the password into it")
        folder = os.environ.get("CREDENTIALS_DIRECTORY") if self.username else None
        credential = Path(folder) / MQTT_CREDENTIAL if folder else None
        return _first_line(credential) or None if credential is not None and credential.exists() else None


class CameraSettings(Section):
    """One source: an RTSP url, a file (looped unless told otherwise) or a device such as /dev/video0."""

    url: str = Field(min_length=1, description="rtsp://..., a file, or a device such as /dev/video0")
    enabled: bool = Field(True, description="false: not watched, its section stays")
    loop: bool = Field(True, description="files only: start again at the end")
    realtime: bool = Field(True, description="files only: play at the pace of the pts")
    timeout_s: float = Field(5.0, ge=1.0, le=60.0, description="no packet for this long is a dead connection")
    stale_after_s: float = Field(9.0, ge=1.0, le=600.0, description="no decodable frame for this long is `offline`")
    black_after_s: float = Field(3.0, ge=0, le=3600, description="black for this long is `degraded`; 0: never")
    frozen_after_s: float = Field(
        60.0, ge=0, le=86_400, description="as long the same picture, if it usually changes, is `degraded`; 0: never"
    )
    doze_after_s: float = Field(
        5.0,
        ge=0,
        le=3600,
        description="nothing moved for this long: decode key frames only, until something does; 0: never",
    )
    hold_s: float = Field(4.0, gt=0, le=60, description="key frames further apart than this: decode every frame")
    hold_mb: float = Field(16.0, gt=0, le=1024, description="most that packets held meanwhile may take")
    look_fps: float = Field(
        2.0, ge=0, le=1000, description="pictures a second that are scaled for `black` and `frozen` alone; 0: all"
    )
    lazy_thumbnails: bool = Field(True, description="encode evidence pictures when they are read; false: at once")
    skip_nonref: bool = Field(True, description="where `stride` takes few: do not decode frames that no other needs")
    masks: tuple[MaskSettings, ...] = Field(
        (), max_length=64, description="what nobody may see of the picture; see privacy.md"
    )
    schedule: ScheduleSettings | None = Field(None, description="when it is watched; default: always")
    pictures: bool = Field(True, description="false: no evidence picture, snapshot or thumbnail of it is made")
    gate: tuple[Method, ...] = Field((), description="overrides the common gate for this camera")
    options: dict[str, str] = Field(default_factory=dict, description="passed to FFmpeg as they are")

    _gates = field_validator("gate", mode="before")(as_methods)

    @model_validator(mode="after")
    def _sees_in_time(self) -> CameraSettings:
        waits_s = [after_s for after_s in (self.black_after_s, self.frozen_after_s) if after_s]
        if self.look_fps and waits_s and min(waits_s) * self.look_fps < 1:
            raise ValueError(
                f"look_fps: {self.look_fps:g} looks too seldom to say anything after {min(waits_s):g} s; "
                "raise it, or raise `black_after_s` and `frozen_after_s` (0 switches them off)"
            )
        return self

    @property
    def privacy(self) -> Privacy:
        """What nobody may see of it."""
        return Privacy(tuple(item.mask for item in self.masks), self.pictures)

    def watched(self, zone: tzinfo | None) -> Schedule:
        """When it is watched, in the users' time zone; None is the machine's."""
        return ALWAYS if self.schedule is None else self.schedule.schedule(zone)

    @property
    def thrift(self) -> Thrift:
        """What is left undone for this camera."""
        names = [entry.name for entry in fields(Thrift)]
        return Thrift(**{name: getattr(self, name) for name in names})


class AnswerSettings(Section):
    """How questions are answered."""

    max_tokens: int = Field(64, ge=1, le=2048, description="longest answer, per camera")
    max_question_chars: int = Field(2000, ge=16, description="a longer question is refused")
    max_queue: int = Field(64, ge=1, description="questions waiting; one more is answered `busy`")
    deadline_s: float = Field(30.0, gt=0, description="when the question does not say")
    patience_s: float = Field(
        0.5, gt=0, le=60, description="frames absorbed together take at most this long, as far as known, or are one"
    )
    evidence: int = Field(2, ge=0, le=16, description="spans named in an answer, when the question does not say")
    min_support: float | None = Field(
        None,
        ge=0,
        le=1,
        description="less support than this in memory is `no_evidence`; 0 gives every guess; default: the model's own",
    )
    time_zone: str | None = Field(
        None, description="e.g. Europe/Berlin, of times in questions and answers; default: ours"
    )
    hours: Literal["24h", "12h"] = Field("24h", description="how times of day are said")

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, name: str | None) -> str | None:
        if name is not None and name not in available_timezones():
            raise ValueError(f"{name!r} is no time zone; {nearest(name, sorted(available_timezones()))[:80]}")
        return name

    @property
    def zone(self) -> ZoneInfo | None:
        """The users' time zone; None is the machine's."""
        return None if self.time_zone is None else ZoneInfo(self.time_zone)

    @property
    def speech(self) -> Speech:
        """How times are said."""
        return Speech(self.zone, self.hours)


class ArchiveSettings(Section):
    """Everything that was ever absorbed, on disk; and the memory's snapshots, for a restart."""

    enabled: bool = Field(True, description="false: what leaves the memory is gone, and a restart forgets everything")
    folder: Path | None = Field(
        None, description="default: systemd's state directory, else longwatch in XDG_STATE_HOME or ~/.local/state"
    )
    quota_gb: float | None = Field(10.0, gt=0, description="per camera; the oldest leave first; null: no limit")
    keep_days: float | None = Field(None, gt=0, description="older carriers leave; default: as long as there is room")
    dtype: Literal["int8", "float16", "float32"] = Field("int8", description="how carriers are stored; see archive.md")
    thumbnail_px: int = Field(320, ge=0, le=4096, description="width of stored pictures at most; 0 stores none")


class Settings(Section):
    """A whole configuration file."""

    cameras: dict[str, CameraSettings] = Field(min_length=1)
    mqtt: MqttSettings = MqttSettings()
    model: ModelSettings = ModelSettings()
    memory: MemorySettings = MemorySettings()
    answer: AnswerSettings = AnswerSettings()
    archive: ArchiveSettings = ArchiveSettings()
    http: HttpSettings = HttpSettings()
    home_assistant: HomeAssistantSettings = HomeAssistantSettings()
    frigate: FrigateSettings = FrigateSettings()
    gate: tuple[Method, ...] = Field(
        ({"stride": {"fps": 1.0}}, {"still": {}}), description="which frames are looked at at all; see methods.md"
    )
    watch: dict[str, WatchSpec] = Field(
        {}, max_length=MAX_WATCHES, description="standing questions, by name; more may come over MQTT"
    )
    watching: WatchingSettings = WatchingSettings()
    diary: DiarySettings = DiarySettings()
    snapshot_every_s: float = Field(10.0, ge=0, description="0 publishes no snapshots")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="for our own lines")

    _gates = field_validator("gate", mode="before")(as_methods)

    @field_validator("cameras")
    @classmethod
    def _camera_names(cls, cameras: dict[str, CameraSettings]) -> dict[str, CameraSettings]:
        for name in cameras:
            if not re.match(NAME_PATTERN, name):
                raise ValueError(f"camera name {name!r} may only hold a-z, 0-9 and _")
            if name in RESERVED_CAMERA_NAMES:
                raise ValueError(f"camera name {name!r} is a topic of ours; choose another")
        return cameras

    @model_validator(mode="after")
    def _watches_known_cameras(self) -> Settings:
        for name, spec in self.watch.items():
            if not re.match(NAME_PATTERN, name):
                raise ValueError(f"watch: the name {name!r} may only hold a-z, 0-9 and _")
            for camera in spec.cameras:
                if camera not in self.cameras:
                    raise ValueError(f"watch.{name}.cameras: {nearest(camera, list(self.cameras))}")
        return self

    @model_validator(mode="after")
    def _dozes_by_a_gate(self) -> Settings:
        for name, camera in self.cameras.items():
            asked = camera.doze_after_s > 0 and "doze_after_s" in camera.model_fields_set
            if asked and not any("still" in entry for entry in camera.gate or self.gate):
                raise ValueError(
                    f"cameras.{name}.doze_after_s: no gate says whether something moves; add `still` to its gate, "
                    "or leave doze_after_s out"
                )
        return self

    @model_validator(mode="after")
    def _frigate_names(self) -> Settings:
        for theirs, ours in self.frigate.cameras.items():
            if ours not in self.cameras:
                raise ValueError(f"frigate.cameras.{theirs}: no camera {ours!r}; {nearest(ours, list(self.cameras))}")
        return self

    def archive_folder(self) -> Path:
        """Where the archive and the snapshots lie."""
        if self.archive.folder is not None:
            return self.archive.folder.expanduser()
        if folder := os.environ.get("STATE_DIRECTORY", "").partition(":")[0]:
            return Path(folder)
        return Path(os.environ.get("XDG_STATE_HOME") or "~/.local/state").expanduser() / "longwatch"

    def secrets(self) -> tuple[str, ...]:
        """Every password in this configuration, for `logs.setup(secrets=...)`; an unreadable password file has none."""
        found = []
        with suppress(ConfigError):
            found.append(self.mqtt.secret() or "")
        with suppress(ConfigError):
            found.append(self.http.secret() or "")
        for camera in self.cameras.values():
            userinfo, at, _ = camera.url.partition("//")[2].rpartition("@")
            found.append(userinfo.partition(":")[2] if at else "")
        return tuple(secret for secret in found if secret)


def load(path: Path) -> Settings:
    """The settings in YAML file `path`. Raises ConfigError: one line that names the file and each bad key.

    Names and options of methods are checked by `daemon.methods.check_methods`, which has to import them.
    """
    return parse(read_yaml(path), str(path))


def parse(raw: dict[str, Any], place: str) -> Settings:
    """Settings from plain data; `place` names it in errors. Raises ConfigError."""
    try:
        return Settings.model_validate(expanded(raw, place))
    except ValidationError as error:
        problems = [_describe(item) for item in error.errors(include_url=False, include_input=False)]
        # `from None`: pydantic's own text, which would be in every traceback, is not redacted.
        raise ConfigError(f"{place}: {'; '.join(dict.fromkeys(problems))}") from None
    except RecursionError as error:
        raise ConfigError(f"{place}: nested too deeply") from error


def _describe(item: Any) -> str:
    """One problem as `key: what is wrong; way out`. Never holds the value: it may be a secret."""
    loc = [part for part in item["loc"] if part != "[key]"]
    key, kind = ".".join(str(part) for part in loc), item["type"]
    if kind == "extra_forbidden":
        return f"{key}: unknown key; {nearest(str(loc[-1]), _siblings(item['loc']))}"
    if kind in ("model_type", "dict_type"):
        return f"{key}: a section with keys is needed here, e.g. `{_example(str(loc[-1]))}`"
    hint = "; put it in quotes" if kind == "string_type" else ""
    return f"{key}: {item['msg'].removeprefix('Value error, ')}{hint}"


def _example(key: str) -> str:
    """What the section `key` could look like on one line."""
    known = {"cameras": "{door: {url: rtsp://...}}", "options": "{rtsp_transport: tcp}"}
    return f"{key}: {known.get(key, '{...}')}"


def _siblings(loc: tuple[str | int, ...]) -> list[str]:
    """The keys that would have been known where `loc` ends."""
    model: type[BaseModel] = Settings
    for part in loc[:-1]:
        field = model.model_fields.get(str(part))
        if field is None:
            continue  # a camera's name, or an index
        kinds = [kind for kind in _models(field.annotation) if issubclass(kind, BaseModel)]
        model = kinds[0] if kinds else model
    return [field.alias or name for name, field in model.model_fields.items()]


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type):
        return [annotation] if issubclass(annotation, BaseModel) else []
    return [found for arg in getattr(annotation, "__args__", ()) for found in _models(arg)]


def _first_line(path: Path) -> str:
    """The text of a password file without its line end; blanks inside and around belong to the password."""
    try:
        return path.read_text(encoding="utf-8").partition("\n")[0].rstrip("\r")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"mqtt.password_file: cannot read {path}: {error.__class__.__name__}") from error
