"""Real brokers for tests: Mosquitto as a process that can be killed and restarted, with passwords and TLS."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from daemon.demo.broker import free_port

START_S = 10.0


def need(binary: str) -> str:
    """The path of a system program; without it the test is skipped, or fails where CI=true."""
    found = shutil.which(binary, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if found is None:
        reason = f"{binary} is not installed (apt install mosquitto mosquitto-clients openssl)"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return found


@dataclass(frozen=True)
class Certificates:
    """An authority, a server certificate for 127.0.0.1 that it signed, and a stranger's authority."""

    ca: Path
    cert: Path
    key: Path
    stranger: Path


def make_certificates(folder: Path) -> Certificates:
    """Fresh elliptic-curve certificates, valid for a day."""
    openssl = need("openssl")

    def run(*args: str) -> None:
        subprocess.run([openssl, *args], cwd=folder, check=True, capture_output=True)

    for name in ("ca", "stranger"):
        new_key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
        out = ("-keyout", f"{name}.key", "-out", f"{name}.pem", "-days", "1", "-subj", f"/CN={name}")
        run("req", "-x509", *new_key, *out)
    run("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", "server.key")
    run("req", "-new", "-key", "server.key", "-out", "server.csr", "-subj", "/CN=127.0.0.1")
    (folder / "san").write_text("subjectAltName=IP:127.0.0.1\n")
    signed = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "1", "-extfile", "san")
    run("x509", "-req", "-in", "server.csr", *signed, "-out", "server.pem")
    return Certificates(folder / "ca.pem", folder / "server.pem", folder / "server.key", folder / "stranger.pem")


class Mosquitto:
    """One broker on a port that it keeps over restarts; sessions and retained messages are kept in `folder`."""

    def __init__(
        self, folder: Path, passwords: dict[str, str] | None = None, tls: Certificates | None = None, acl: str = ""
    ) -> None:
        self._binary = need("mosquitto")
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()
        lines = [f"listener {self.port} 127.0.0.1", "set_tcp_nodelay true", "persistence true"]
        lines += [f"persistence_location {folder}/"]
        lines += ["allow_anonymous false" if passwords else "allow_anonymous true", "log_type error"]
        if os.geteuid() == 0:
            lines.append("user root")  # else it becomes `mosquitto`, who may not read a test's folder
        if passwords:
            self.set_passwords(passwords)
            lines.append(f"password_file {folder / 'passwords'}")
        if acl:
            (folder / "acl").write_text(acl)
            (folder / "acl").chmod(0o600)
            lines.append(f"acl_file {folder / 'acl'}")
        if tls is not None:
            lines += [f"certfile {tls.cert}", f"keyfile {tls.key}"]
        (folder / "mosquitto.conf").write_text("\n".join(lines) + "\n")

    def set_passwords(self, passwords: dict[str, str]) -> None:
        """Replace all users; a running broker reads them at its next start."""
        path = self._folder / "passwords"
        path.write_text("".join(f"{user}:{password}\n" for user, password in passwords.items()))
        path.chmod(0o600)
        subprocess.run([need("mosquitto_passwd"), "-U", str(path)], check=True, capture_output=True)

    def start(self) -> Mosquitto:
        config = str(self._folder / "mosquitto.conf")
        self._process = subprocess.Popen([self._binary, "-c", config], stderr=subprocess.DEVNULL)
        end_s = time.monotonic() + START_S
        while time.monotonic() < end_s:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return self
            if self._process.poll() is not None:
                pytest.fail(f"mosquitto ended with {self._process.returncode}")
            time.sleep(0.02)
        pytest.fail("mosquitto does not listen")

    def stop(self) -> None:
        """Ask it to end; it writes its sessions first."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(START_S)
            self._process = None

    def kill(self) -> None:
        """End it at once; it writes nothing."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(START_S)
            self._process = None
