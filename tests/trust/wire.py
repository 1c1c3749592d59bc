"""An HTTP/1.1 client written by hand, so that it can misbehave, and servers in separate processes."""

from __future__ import annotations

import http.client
import json
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from tests.transports import listen
from tests.trust.probe import CHAT, ask


class RawClient:
    """One connection. It reads only when told to, and can disconnect in two ways: FIN and RST."""

    def __init__(self, url: str) -> None:
        address = urlsplit(url)
        self.socket = socket.create_connection((address.hostname or "", address.port or 0), timeout=20)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.socket.close()

    def head(self, *headers: str, method: str = "POST", path: str = CHAT) -> None:
        """Send the head of a request."""
        lines = [f"{method} {path} HTTP/1.1", "Host: localhost", *headers, "", ""]
        self.socket.sendall("\r\n".join(lines).encode("latin-1"))

    def chat(self, **fields: Any) -> None:
        """Send a whole chat request."""
        body = json.dumps(ask(**fields)).encode()
        self.head("Content-Type: application/json", f"Content-Length: {len(body)}")
        self.socket.sendall(body)

    def chunk(self, data: bytes) -> None:
        """Send a chunk of a chunked body; an empty one ends it."""
        self.socket.sendall(b"%x\r\n%b\r\n" % (len(data), data))

    def read_until(self, mark: bytes) -> bytes:
        """Read until `mark` has arrived or the server has closed."""
        data = b""
        while mark not in data:
            piece = self.socket.recv(65536)
            if not piece:
                return data
            data += piece
        return data

    def read_to_end(self) -> bytes:
        """Read everything until the server closes or resets the connection."""
        data = b""
        try:
            while piece := self.socket.recv(65536):
                data += piece
        except ConnectionResetError:
            pass
        return data

    def answer(self) -> tuple[int, Any]:
        """The status and the JSON body of a plain answer."""
        response = http.client.HTTPResponse(self.socket)
        response.begin()
        return response.status, json.loads(response.read())

    def reset(self) -> None:
        """Disconnect with RST, as after a killed process or a dropped network."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()


@contextmanager
def process(source: str, folder: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Run uvicorn in a process with the `app` that `source` defines; yields its URL and the process."""
    (folder / "served.py").write_text(source, "utf-8")
    with listen() as listener, (folder / "log").open("wb") as log:
        command = [sys.executable, "-m", "uvicorn", "served:app", "--http", "h11", "--log-level", "warning"]
        command += ["--fd", str(listener.fileno()), "--app-dir", str(folder), "--timeout-graceful-shutdown", "2"]
        root = Path(__file__).parents[2]
        served = subprocess.Popen(command, pass_fds=[listener.fileno()], cwd=root, stdout=log, stderr=log)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    try:
        yield url, served
    finally:
        served.terminate()
        try:
            served.wait(10)
        finally:
            served.kill()
            served.wait()


def open_files() -> int:
    """Number of open file descriptors of this process."""
    return len(list(Path("/proc/self/fd").iterdir()))


def resident() -> int:
    """Resident memory of this process, in bytes."""
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
