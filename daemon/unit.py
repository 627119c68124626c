"""`longwatch unit`: the systemd unit for this installation, with the commands that install it."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from importlib import resources
from pathlib import Path

from stream.errors import ConfigError

UNIT_PATH = Path("/etc/systemd/system/longwatch.service")
DEFAULT_CONFIG = Path("/etc/longwatch/longwatch.yaml")

# What the unit's own hardening hides: ProtectHome and PrivateTmp.
_HIDDEN = tuple(Path(path) for path in ("/home", "/root", "/run/user", "/tmp", "/var/tmp"))
_SPECIAL = "\"'\\$%;"  # systemd refuses some of them in an executable's name however they are escaped
_EXEC_START = "ExecStart="
_RULE = "# " + "-" * 100


def render(executable: Path, config: Path = DEFAULT_CONFIG, *, gpu: bool = False, needs: Iterable[Path] = ()) -> str:
    """The unit text that runs `executable` with `config`; `gpu` appends what an NVIDIA GPU needs.

    `needs` are further paths that the service must see, as `installation` lists them. Raises ConfigError when a path
    is relative, cannot stand in a unit, or lies where the unit's hardening hides it.
    """
    for path in (executable, config, *needs):
        _check(path)
    folder = resources.files("daemon") / "systemd"
    lines = (folder / "longwatch.service").read_text(encoding="utf-8").splitlines()
    command = f"{_EXEC_START}{_quote(executable)} run --config {_quote(config)}"
    lines = [command if line.startswith(_EXEC_START) else line for line in lines]
    if gpu:
        lines += ["", *(folder / "gpu.conf").read_text(encoding="utf-8").splitlines()]
    return "\n".join([*_commands(executable, config, gpu=gpu), *lines, ""])


def installation() -> tuple[Path, tuple[Path, ...]]:
    """The running `longwatch` executable, absolute, and the other places it is loaded from: Python and the package.

    An environment's python is a link, often to one below a home directory, and an editable install reads the sources:
    a unit that sees only the executable would not start.
    """
    executable = Path(sys.argv[0])
    if executable.name != "longwatch" or not executable.is_file():
        executable = Path(sys.executable).parent / "longwatch"
    package = Path(__file__).resolve().parent
    return executable.absolute(), (Path(sys.executable).resolve(), package)


def problem(path: Path) -> str | None:
    """Why a service under this unit could not see `path`, or None. The path need not exist."""
    for place in dict.fromkeys((path, path.resolve())):
        hidden = next((root for root in _HIDDEN if place.is_relative_to(root)), None)
        if hidden is not None:
            seen = f"{path}" if place == path else f"{path} (really {place})"
            return f"{seen} is under {hidden}, which the service cannot see"
    return None


def _check(path: Path) -> None:
    if not path.is_absolute():
        raise ConfigError(f"longwatch unit: {path} is not an absolute path; systemd needs one")
    if any(ord(sign) < 32 or sign in _SPECIAL for sign in str(path)):
        raise ConfigError(f"longwatch unit: {str(path)!r} holds a sign that means something in a unit; rename it")
    if (why := problem(path)) is not None:
        raise ConfigError(
            f"longwatch unit: {why} (ProtectHome, PrivateTmp); install Longwatch and its Python outside, "
            "e.g. in /opt/longwatch with PYTHON=/usr/bin/python3, and the configuration in /etc/longwatch"
        )


def _quote(path: Path) -> str:
    """`path` as one word of ExecStart."""
    return f'"{path}"' if " " in str(path) else str(path)


def _commands(executable: Path, config: Path, *, gpu: bool) -> list[str]:
    flags = f" --config {config}" * (config != DEFAULT_CONFIG) + " --gpu" * gpu
    return [
        _RULE,
        "# To install, as root:",
        f"#   1. {executable} doctor --config {config}",
        f"#   2. {executable} unit{flags} > {UNIT_PATH}",
        "#   3. systemctl daemon-reload",
        "#   4. systemctl enable --now longwatch && systemctl status longwatch",
        _RULE,
    ]
