"""Servers on loopback that a test starts, kills, hangs or slows down, each by its own process."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


class Server:
    """A process, with whatever it starts.

    Args:
        command: what to run.
        log: where its output goes.
        answers: whether it is ready for work.
        environment: beside the test's own.
        user: a name, where root must not run it.
    """

    def __init__(
        self,
        command: Sequence[str],
        log: Path,
        answers: Callable[[], bool],
        *,
        environment: Mapping[str, str] | None = None,
        user: str | None = None,
    ) -> None:
        self.command, self.log, self.answers, self.user = command, log, answers, user
        self.environment = {**os.environ, **(environment or {})}
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                cwd=self.log.parent,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                user=self.user,
                group=self.user,
            )
        deadline = time.monotonic() + 120
        while not self.answers():
            said = self.log.read_text()[-3000:]
            assert self.process.poll() is None, said
            assert time.monotonic() < deadline, said
            time.sleep(0.1)

    def kill(self) -> None:
        self._send(signal.SIGKILL)
        if self.process:
            self.process.wait()
        self.process = None

    def hang(self) -> None:
        self._send(signal.SIGSTOP)

    def resume(self) -> None:
        self._send(signal.SIGCONT)

    def _send(self, what: signal.Signals) -> None:
        if self.process is None:
            return
        with suppress(psutil.NoSuchProcess):
            top = psutil.Process(self.process.pid)
            for one in [top, *top.children(recursive=True)]:
                with suppress(psutil.NoSuchProcess):
                    one.send_signal(what)


def mlflow_server(
    root: Path, store: str, artifacts: str, environment: Mapping[str, str] | None = None
) -> tuple[Server, int]:
    """MLflow's own server, not started yet, and its port."""
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--workers", "1"]
    command += ["--port", str(port), "--backend-store-uri", store]
    command += ["--artifacts-destination", artifacts]
    quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}

    ready = answering(f"http://127.0.0.1:{port}/health")
    log = root / "server.log"
    return Server(command, log, ready, environment={**quiet, **(environment or {})}), port


def answering(address: str) -> Callable[[], bool]:
    """Whether a page is there."""

    def answers() -> bool:
        try:
            urllib.request.urlopen(address, timeout=2).close()
        except (OSError, urllib.error.URLError):
            return False
        return True

    return answers


class Relay:
    """Passes TCP on to a port of loopback: slowly, or until something happens.

    Attributes:
        port: where it listens.
        delay: seconds that every message from a client waits.
        seen: messages from clients so far.
        at: the number of the message before which `then` is called.
        mute: the next answer is lost, and everything after it.
        down: nothing is passed on.
    """

    def __init__(self, upstream: int) -> None:
        self.upstream = upstream
        self.delay, self.seen = 0.0, 0
        self.at: int | None = None
        self.then: Callable[[], None] = lambda: None
        self.mute = self.down = False
        self._count = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def fail_at(self, message: int, how: str) -> None:
        """From that message on until `heal`: the "request" is lost, or its "answer"."""
        self.seen, self.at = 0, message
        self.then = lambda: setattr(self, "down" if how == "request" else "mute", True)

    def heal(self) -> None:
        self.mute = self.down = False
        self.at, self.delay = None, 0.0

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, suppress(OSError):
            if self.down:
                return
            with socket.create_connection(("127.0.0.1", self.upstream)) as server:
                back = threading.Thread(target=self._answer, args=(server, client), daemon=True)
                back.start()
                with suppress(OSError):
                    self._pass_on(client, server)
                if self.down:
                    _hang_up(server)
                back.join()

    def _pass_on(self, client: socket.socket, server: socket.socket) -> None:
        """Client to server, until one closes."""
        while data := client.recv(2**16):
            time.sleep(self.delay)
            with self._count:
                self.seen += 1
                reached = self.at is not None and self.seen >= self.at
                if reached:
                    self.at = None
                    self.then()
            if self.down:
                break
            server.sendall(data)
        server.shutdown(socket.SHUT_WR)

    def _answer(self, server: socket.socket, client: socket.socket) -> None:
        """Server to client, until one closes."""
        with suppress(OSError):
            while data := server.recv(2**16):
                self.down = self.down or self.mute
                if self.down:
                    break
                client.sendall(data)
        _hang_up(client)
        _hang_up(server)


def _hang_up(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
