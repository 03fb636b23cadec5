"""Serving a store to browsers: the index, the comparison, zips, and the files of runs; nothing outside the store.

A request's path is taken apart, resolved with every link, and answered only
when what it leads to is a regular file or a folder inside the store.  Nothing
that begins with a dot is shown.  Bound to this machine (the default), requests
that name another host are refused, so that no web page elsewhere can have the
browser read the store under a name of its own (DNS rebinding).
"""

from __future__ import annotations

import html
import ipaddress
import os
import shutil
import socket
import socketserver
import stat
import threading
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import BinaryIO, Final
from urllib.parse import quote, unquote, urlsplit

from splitvote.harness.errors import ConfigError
from splitvote.reports.index.page import PAGES, render
from splitvote.reports.index.scanning import Scanner
from splitvote.reports.index.zipping import zip_run
from splitvote.reports.wording import plain

DEFAULT_HOST: Final = "127.0.0.1"
DEFAULT_PORT: Final = 8400

_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".jsonl": "text/plain; charset=utf-8",
    ".log": "text/plain; charset=utf-8",
    ".txt": "text/plain; charset=utf-8",
}
_PAGES_OF_OURS: Final = ("report.html", *PAGES)
"""Only these are shown as pages; any other .html, such as one among a member's files, is shown as text."""


class StoreServer(ThreadingHTTPServer):
    """Serves one store; ``url`` says where."""

    daemon_threads = True

    def __init__(self, store: Path, *, host: str = DEFAULT_HOST, port: int = DEFAULT_PORT) -> None:
        """Bind; port 0 takes a free one.  Raises ConfigError for a store or an address that cannot be."""
        self.scanner = Scanner(store)
        self.root = store.resolve()
        self.scanning = threading.Lock()
        self.is_local = _is_loopback(host)
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            super().__init__((host, port), _Handler)
        except OSError as failure:
            raise ConfigError(
                f"cannot listen on {host} port {port}: {failure.strerror or failure}; choose another --port or --host"
            ) from None

    def server_bind(self) -> None:
        """Bind without asking a name server who we are, as HTTPServer does."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    @property
    def url(self) -> str:
        """The address of the index."""
        host = f"[{self.server_name}]" if ":" in self.server_name else self.server_name
        return f"http://{host}:{self.server_port}/"

    def page(self, name: str) -> str:
        """The index or the comparison, of the store as it is now."""
        with self.scanning:
            index = self.scanner.scan()
        return render(name, index, store=self.root, is_served=True)

    def find(self, segments: tuple[str, ...]) -> Path | None:
        """What these names lead to, with every link resolved; None where that is not inside the store."""
        if any(name in ("", ".", "..") or name.startswith(".") or "/" in name or "\0" in name for name in segments):
            return None
        try:
            found = self.root.joinpath(*segments).resolve(strict=True)
        except (OSError, ValueError, RuntimeError):
            return None
        if not found.is_relative_to(self.root):
            return None
        return None if any(part.startswith(".") for part in found.relative_to(self.root).parts) else found


def serve(
    store: Path, *, host: str = DEFAULT_HOST, port: int = DEFAULT_PORT, say: Callable[[str], None] = print
) -> None:
    """Serve a store until interrupted.

    Raises ConfigError for a store or an address that cannot be.
    """
    with StoreServer(store, host=host, port=port) as server:
        say(f"{store} is at {server.url} (Ctrl-C ends)")
        if not server.is_local:
            say(f"  whoever can reach {host} can read the whole store; --host {DEFAULT_HOST} keeps it to this machine")
        with suppress(KeyboardInterrupt):
            server.serve_forever()


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class _Handler(BaseHTTPRequestHandler):
    """One request."""

    server: StoreServer
    timeout = 60  # s, of a reader that takes nothing

    def do_GET(self) -> None:
        """Answer with the page, file, listing or zip asked for."""
        self._answer()

    def do_HEAD(self) -> None:
        """The same without the content."""
        self._answer()

    def version_string(self) -> str:
        """What the header Server says."""
        return "splitvote"

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: what was read is nobody's business, and errors are the browser's to show."""

    def _answer(self) -> None:
        if self.server.is_local and not self._names_this_machine():
            self._refuse(HTTPStatus.FORBIDDEN, "This store is served to this machine only.")
            return
        path = urlsplit(self.path).path if self.path.startswith("/") else ""
        segments = tuple(unquote(name, errors="surrogateescape") for name in path.split("/")[1:])
        with suppress(BrokenPipeError, ConnectionResetError, TimeoutError):  # the reader went away
            self._route(segments)

    def _names_this_machine(self) -> bool:
        named = self.headers.get("Host", "")
        host = named[: named.find("]") + 1].strip("[]") if named.startswith("[") else named.partition(":")[0]
        return _is_loopback(host.lower())

    def _route(self, segments: tuple[str, ...]) -> None:
        match segments:
            case ("",) | ("index.html",):
                self._send_text(self.server.page("index.html"), _TYPES[".html"])
            case ("compare.html",):
                self._send_text(self.server.page("compare.html"), _TYPES[".html"])
            case ("zip", test, name) if name.endswith(".zip"):
                self._send_zip(test, name.removesuffix(".zip"))
            case _:
                self._send_found(segments)

    def _send_found(self, segments: tuple[str, ...]) -> None:
        is_folder = segments[-1:] == ("",)
        found = self.server.find(segments[:-1] if is_folder else segments) if segments else None
        if found is None:
            self._refuse(HTTPStatus.NOT_FOUND, "There is nothing of this name in the store.")
        elif found.is_dir():
            if is_folder:
                self._send_text(_listing(found, "/".join(segments[:-1])), _TYPES[".html"])
            else:
                self._redirect(segments[-1])
        else:
            self._send_file(found)

    def _redirect(self, name: str) -> None:
        """A folder's address ends in a slash, or the links in its listing would lead elsewhere."""
        self.send_response(HTTPStatus.MOVED_PERMANENTLY)
        self.send_header("Location", "./" + quote(name, safe="", errors="surrogateescape") + "/")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _send_text(self, text: str, content_type: str, status: HTTPStatus = HTTPStatus.OK) -> None:
        content = text.encode(errors="replace")
        self._begin(content_type, len(content), status)
        if self.command != "HEAD":
            self.wfile.write(content)

    def _send_file(self, path: Path) -> None:
        try:
            file = _open_regular(path)
        except OSError:
            self._refuse(HTTPStatus.NOT_FOUND, "There is no such file, or it may not be read.")
            return
        with file:
            length = os.fstat(file.fileno()).st_size
            self._begin(_type_of(path), length)
            if self.command != "HEAD":
                shutil.copyfileobj(file, self.wfile)

    def _send_zip(self, test: str, run: str) -> None:
        found = self.server.find((test, run))
        if found is None or not (found / "config.json").is_file():
            self._refuse(HTTPStatus.NOT_FOUND, "There is no such run in the store.")
            return
        self._begin("application/zip", None, name=f"{found.parent.name}-{found.name}.zip")
        if self.command != "HEAD":
            zip_run(found, self.wfile)

    def _begin(
        self, content_type: str, length: int | None, status: HTTPStatus = HTTPStatus.OK, name: str | None = None
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        if length is not None:
            self.send_header("Content-Length", str(length))
        if name is not None:
            self.send_header("Content-Disposition", f"attachment; filename*=UTF-8''{quote(name, errors='replace')}")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Cache-Control", "no-cache")
        self.end_headers()

    def _refuse(self, status: HTTPStatus, why: str) -> None:
        self._send_text(f"{status.value} {why}\n", _TYPES[".txt"], status)


def _open_regular(path: Path) -> BinaryIO:
    """Open a resolved path that is a regular file, without waiting for a pipe's other end or following a new link."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise FileNotFoundError(path)
    return os.fdopen(descriptor, "rb")


def _type_of(path: Path) -> str:
    if path.suffix == ".html" and path.name not in _PAGES_OF_OURS:
        return _TYPES[".txt"]
    return _TYPES.get(path.suffix, "application/octet-stream")


def _listing(folder: Path, name: str) -> str:
    """A plain page of links to what is in a folder."""
    rows = []
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        slash = "/" if path.is_dir() else ""
        size = "" if slash else f" {path.lstat().st_size:,} bytes"
        address = quote(path.name, safe="", errors="surrogateescape") + slash
        rows.append(f'<li><a href="./{address}">{html.escape(plain(path.name))}{slash}</a>{size}</li>')
    title = html.escape(plain(name))
    return (
        '<!doctype html><meta charset="utf-8"><meta name="color-scheme" content="light dark">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f'<title>{title}</title><body style="font: 14px/1.6 system-ui, sans-serif; margin: 2em">'
        f'<h1 style="font-size: 18px">{title}</h1><ul>{"".join(rows)}</ul><p><a href="/">All runs</a></p>'
    )
