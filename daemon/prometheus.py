"""What `/metrics` says: an overview and the counters as Prometheus' text format 0.0.4, and the table of all of it.

`python -m daemon.prometheus` writes docs/metrics.md from the table.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from daemon.metrics import Sample
from daemon.overview import Overview
from daemon.wire import Availability, CameraState

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
PAGE = Path(__file__).resolve().parents[1] / "docs" / "metrics.md"
MARK = "<!-- from the code: python -m daemon.prometheus -->"

Kind = Literal["counter", "gauge", "summary"]
Value = tuple[dict[str, str], float]  # labels, and what is measured


@dataclass(frozen=True, slots=True)
class Metric:
    """One name. `labels` beside `quantile`, which every summary has."""

    name: str
    kind: Kind
    about: str
    labels: tuple[str, ...] = ()


# What is made of an overview. In the order of the page.
TABLE: tuple[Metric, ...] = (
    Metric("longwatch_info", "gauge", "Always 1; the labels say what runs.", ("version", "model")),
    Metric("longwatch_uptime_seconds", "gauge", "Since the daemon started."),
    Metric("longwatch_questions_waiting", "gauge", "Questions that wait for their turn."),
    Metric("longwatch_camera_state", "gauge", "1 for the state that the camera is in.", ("camera", "state")),
    Metric("longwatch_camera_switched_off", "gauge", "1: not watched, because somebody said so.", ("camera",)),
    Metric("longwatch_camera_frame_age_seconds", "gauge", "Age of the newest frame, or packet.", ("camera",)),
    Metric("longwatch_camera_frames_per_second", "gauge", "Frames decoded lately.", ("camera",)),
    Metric("longwatch_camera_frames_total", "counter", "Frames kept, skipped and dropped.", ("camera", "result")),
    Metric("longwatch_camera_frames_corrupt_total", "counter", "Damaged frames, part of the skipped.", ("camera",)),
    Metric("longwatch_camera_reconnects_total", "counter", "Times the camera was connected again.", ("camera",)),
    Metric("longwatch_camera_carriers", "gauge", "Moments in the bounded memory.", ("camera",)),
    Metric("longwatch_camera_memory_seconds", "gauge", "From its oldest to its newest moment.", ("camera",)),
    Metric("longwatch_camera_gaps", "gauge", "Gaps that touch the last 24 hours.", ("camera",)),
    Metric("longwatch_camera_gap_seconds", "gauge", "Not seen, of the last 24 hours.", ("camera",)),
    Metric("longwatch_archive_ok", "gauge", "0: moments are remembered, but not written to the disk."),
    Metric("longwatch_archive_bytes", "gauge", "What all cameras' moments take on the disk."),
    Metric("longwatch_archive_queued", "gauge", "Moments that wait to be written."),
    Metric("longwatch_archive_written_total", "counter", "Moments written."),
    Metric("longwatch_archive_dropped_total", "counter", "Moments that could not be written, and are in no archive."),
    Metric("longwatch_archive_broken_total", "counter", "Moments that were not written because they are not finite."),
    Metric("longwatch_archive_pruned_total", "counter", "Moments that left by quota or age."),
    Metric("longwatch_archive_commit_seconds", "summary", "One commit, of the last thousand."),
    Metric("longwatch_mqtt_connected", "gauge", "1: the broker is there."),
    Metric("longwatch_mqtt_reconnects_total", "counter", "Connections to the broker after the first."),
    Metric("longwatch_mqtt_messages_waiting", "gauge", "Messages that wait for the broker."),
    Metric("longwatch_mqtt_messages_dropped_total", "counter", "Chunks and pictures given up while it was away."),
    Metric("longwatch_mqtt_answers_lost_total", "counter", "Answers given up because the queue was full."),
    Metric("longwatch_part_silent_seconds", "gauge", "Since a part of the daemon moved.", ("part",)),
    Metric("longwatch_parts_stuck", "gauge", "Parts that should have moved, and did not; /healthz is 503 then."),
    Metric("longwatch_process_memory_bytes", "gauge", "Resident memory."),
    Metric("longwatch_process_cpu_seconds_total", "counter", "Processor time, all threads."),
    Metric("longwatch_process_threads", "gauge", "Threads that Python knows."),
)

# What the parts count by themselves (`daemon.metrics`). Times are milliseconds there, seconds here.
COUNTED: dict[str, tuple[str, tuple[str, ...]]] = {
    "absorb_ms": ("One batch of frames into memory, of the newest 512.", ()),
    "absorbed": ("Frames that went through the model.", ()),
    "answer_ms": ("Question taken to answer given, of the newest 512.", ()),
    "answers": ("Answers given.", ("status",)),
    "archive_faults": ("The archive could not be opened, or failed.", ()),
    "archive_unreadable": ("Parts of the archive that could not be read.", ()),
    "call_faults": ("Calls into the engine that failed.", ()),
    "clock_jumps": ("Times that somebody set the clock.", ()),
    "diary_dropped": ("Lines of the diary that the archive did not take.", ()),
    "diary_faults": ("Lines of the diary that failed.", ()),
    "diary_lines": ("Lines of the diary written.", ()),
    "diary_missed": ("Events of which the diary could say nothing, mostly for want of time.", ()),
    "diary_ms": ("Computing one line of the diary, of the newest 512.", ()),
    "engine_faults": ("Turns of the engine that failed.", ()),
    "first_token_ms": ("Question taken to first token, of the newest 512.", ()),
    "forget_faults": ("Erasures asked over MQTT that failed, and are tried again.", ()),
    "forward_faults": ("Decode steps that failed.", ()),
    "frames_stale": ("Frames that were older than what was remembered.", ()),
    "frigate_asked": ("Questions asked about events of Frigate.", ()),
    "frigate_skipped": ("Events of Frigate that were not asked about.", ("reason",)),
    "http_crashes": ("Times the HTTP server ended by itself.", ()),
    "http_faults": ("Requests that ended in an error of ours.", ("kind",)),
    "http_refused": ("Requests that the guard refused.", ("status",)),
    "question_faults": ("Questions that failed.", ()),
    "recall_faults": ("Searches of the archive that failed.", ()),
    "recall_timeouts": ("Searches of the archive that took too long.", ()),
    "series_refused": ("Series that would have been one too many.", ()),
    "snapshot_faults": ("Snapshots of a memory that could not be read or written.", ()),
    "viewer_events_dropped": ("Events that a slow viewer of the page did not get.", ()),
    "switch_refused": ("Commands to a camera's switch that were not understood.", ()),
    "watch_evaluated": ("Standing questions evaluated.", ()),
    "watch_events": ("Events of standing questions.", ("type",)),
    "watch_faults": ("Evaluations of standing questions that failed.", ()),
    "watch_history_faults": ("Times that past events of standing questions could not be kept or read.", ()),
    "watch_missed": ("Standing questions that were not evaluated in time.", ()),
    "watch_ms": ("One evaluation of standing questions, of the newest 512.", ()),
    "watch_unchanged": ("Frames that changed nothing, so that no standing question was evaluated.", ()),
}
_QUANTILE = "q"
_UNKNOWN = "Counted by a part of the daemon."


def exposition(seen: Overview, counters: Iterable[Sample]) -> str:
    """The whole text. Everything in it has HELP and TYPE lines, and every name stands once."""
    values = _values(seen)
    lines = [line for metric in TABLE if values[metric.name] for line in _family(metric, values[metric.name])]
    found: dict[str, tuple[Metric, list[str]]] = {}
    for sample in counters:
        metric, suffix = _counted(sample)
        labels = {"quantile" if name == _QUANTILE else name: value for name, value in sample.labels}
        value = sample.value / 1000 if sample.kind == "quantile" else sample.value
        found.setdefault(metric.name, (metric, []))[1].append(_line(metric.name + suffix, labels, value))
    for metric, rows in found.values():
        lines += [*_head(metric), *rows]
    return "\n".join(lines) + "\n"


def _counted(sample: Sample) -> tuple[Metric, str]:
    """Under which name a sample of the counters goes out, and what stands behind the name in its line."""
    base = sample.name.removesuffix("_count")
    timed = sample.kind == "quantile" or (base != sample.name and base.endswith("_ms"))
    about, labels = COUNTED.get(base if timed else sample.name, (_UNKNOWN, ()))
    if timed:
        name = base.removesuffix("_ms") + "_seconds"
        return Metric(f"longwatch_{name}", "summary", about, labels), "" if sample.kind == "quantile" else "_count"
    if sample.kind == "gauge":
        return Metric(f"longwatch_{sample.name}", "gauge", about, labels), ""
    return Metric(f"longwatch_{sample.name}_total", "counter", about, labels), ""


def _family(metric: Metric, values: Iterable[Value]) -> list[str]:
    return [*_head(metric), *(_line(metric.name, labels, value) for labels, value in values)]


def _head(metric: Metric) -> list[str]:
    about = metric.about.replace("\\", "\\\\").replace("\n", "\\n")
    return [f"# HELP {metric.name} {about}", f"# TYPE {metric.name} {metric.kind}"]


def _line(name: str, labels: dict[str, str], value: float) -> str:
    inside = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
    return f"{name}{{{inside}}} {value:.15g}" if inside else f"{name} {value:.15g}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _values(seen: Overview) -> dict[str, list[Value]]:
    """Each name of the table -> its values; none where nothing is known."""
    status, process = seen.status, seen.process
    single: dict[str, float | None] = {
        "uptime_seconds": status.uptime_s,
        "questions_waiting": status.queue_depth,
        "archive_ok": float(status.archive_ok),
        "archive_bytes": status.archive_bytes,
        "archive_written_total": status.archived,
        "archive_dropped_total": status.archive_dropped,
        "mqtt_reconnects_total": status.mqtt_reconnects,
        "mqtt_messages_waiting": status.mqtt_waiting,
        "mqtt_messages_dropped_total": status.mqtt_dropped,
        "mqtt_answers_lost_total": status.mqtt_lost,
        "mqtt_connected": None if seen.broker is None else float(seen.broker.connected),
        "parts_stuck": len(seen.stuck),
        "process_memory_bytes": process.memory_bytes,
        "process_cpu_seconds_total": process.cpu_s,
        "process_threads": process.threads,
    }
    found: dict[str, list[Value]] = {metric.name: [] for metric in TABLE}
    found |= {f"longwatch_{name}": [({}, value)] for name, value in single.items() if value is not None}
    found["longwatch_info"] = [({"version": status.version, "model": status.model}, 1)]
    found["longwatch_part_silent_seconds"] = [({"part": name}, age_s) for name, age_s in seen.parts.items()]
    if seen.archive is not None:
        archive = seen.archive
        for name, value in (
            ("queued", archive.queued),
            ("broken_total", archive.broken),
            ("pruned_total", archive.pruned),
        ):
            found[f"longwatch_archive_{name}"] = [({}, value)]
        quantiles = (("0.5", archive.commit_s_p50), ("0.99", archive.commit_s_p99))
        found["longwatch_archive_commit_seconds"] = [({"quantile": q}, value) for q, value in quantiles]
    for camera in seen.cameras:
        for name, labels, number in _of_camera(seen, camera):
            if number is not None:
                found[f"longwatch_camera_{name}"].append(({"camera": camera.camera, **labels}, number))
    return found


def _of_camera(seen: Overview, camera: CameraState) -> Iterator[tuple[str, dict[str, str], float | None]]:
    for state in get_args(Availability):
        yield "state", {"state": state}, float(camera.state == state)
    yield "switched_off", {}, float(camera.camera in seen.switched_off)
    yield "frame_age_seconds", {}, camera.newest_age_s
    yield "frames_per_second", {}, camera.fps
    for result, frames in (
        ("kept", camera.frames_kept),
        ("skipped", camera.frames_skipped),
        ("dropped", camera.frames_dropped),
    ):
        yield "frames_total", {"result": result}, frames
    yield "frames_corrupt_total", {}, camera.frames_corrupt
    yield "reconnects_total", {}, camera.reconnects
    yield "carriers", {}, camera.carriers
    known = camera.memory_from is not None and camera.memory_to is not None
    yield "memory_seconds", {}, (camera.memory_to or 0.0) - (camera.memory_from or 0.0) if known else None
    if (gaps := seen.gaps.get(camera.camera)) is not None:
        yield "gaps", {}, gaps.count
        yield "gap_seconds", {}, gaps.seconds


def catalogue() -> Iterator[Metric]:
    """Every metric: those of the table, then those that parts count."""
    yield from TABLE
    for name in COUNTED:
        metric, _ = _counted(Sample(name, "quantile" if name.endswith("_ms") else "counter", (), 0.0))
        yield Metric(metric.name, metric.kind, metric.about, COUNTED[name][1])


def table() -> str:
    """The table of docs/metrics.md, from its mark on."""
    rows = [MARK, "", "| metric | kind | labels | meaning |", "|---|---|---|---|"]
    for metric in catalogue():
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        rows.append(f"| `{metric.name}` | {metric.kind} | {labels} | {metric.about} |")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    PAGE.write_text(PAGE.read_text(encoding="utf-8").partition(MARK)[0] + table(), encoding="utf-8")
