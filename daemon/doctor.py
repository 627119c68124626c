"""`longwatch doctor`: what would keep this configuration from working here, and the way out of each.

The checks are in `daemon.checks`, which imports what is heavy only when a check needs it. Here they are shown as they
finish, and become an exit code.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from daemon import checks
from daemon.examine import Check, Status, examine, in_thread
from stream.errors import spellings

_STYLE: dict[Status, str] = {"ok": "green", "warn": "yellow", "fail": "bold red"}


@dataclass
class Report:
    """Shows lines as they come, with what is still being waited for; or JSON at the end."""

    console: Console
    as_json: bool = False
    pending: list[str] = field(default_factory=list)

    def line(self, check: Check) -> None:
        """Print one finished check."""
        if check.name in self.pending:
            self.pending.remove(check.name)
        if self.as_json:
            return
        mark = f"[{_STYLE[check.status]}]{check.status:>4}[/]"
        self.console.print(f"{mark}  [bold]{escape(check.name)}[/]  {escape(check.seen)}", highlight=False)
        if check.way_out:
            self.console.print(f"      [dim]->[/] {escape(check.way_out)}", highlight=False)

    def end(self, checks: list[Check]) -> None:
        """The last line, or the whole JSON: `{"ok": bool, "checks": [{name, status, seen, way_out}]}`."""
        failed, warned = (sum(check.status == status for check in checks) for status in ("fail", "warn"))
        if self.as_json:
            document = {"ok": failed == 0, "checks": [dataclasses.asdict(check) for check in checks]}
            self.console.print(json.dumps(document, indent=1), markup=False, highlight=False, soft_wrap=True)
            return
        text = f"{len(checks)} checks, {failed} failed, {warned} to look at"
        self.console.print(f"[{_STYLE['fail' if failed else 'warn' if warned else 'ok']}]{text}[/]", highlight=False)


def doctor(path: Path, *, as_json: bool = False, console: Console | None = None) -> int:
    """Run every check on the configuration in `path` and print the report. Exit code: 0 nothing failed, else 1."""
    return asyncio.run(_doctor(path, Report(console or Console(soft_wrap=True), as_json)))


async def _doctor(path: Path, report: Report) -> int:
    report.pending.append("configuration")
    first, settings = await in_thread(lambda: checks.configuration(path))
    report.line(first)
    tasks = checks.all_tasks(settings)
    report.pending += [task.name for task in tasks]
    secrets = spellings(settings.secrets()) if settings is not None else ()
    with report.console.status("") as status:

        def show(check: Check) -> None:
            report.line(check)
            status.update("waiting for " + ", ".join(report.pending))

        status.update("waiting for " + ", ".join(report.pending))
        found = [first, *await examine(tasks, secrets, show)]
    report.end(found)
    return 1 if any(check.status == "fail" for check in found) else 0
