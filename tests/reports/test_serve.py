"""Serving a store: what is in it, and nothing else whatever the path says."""

from __future__ import annotations

import io
import os
import threading
import zipfile
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from urllib.parse import quote

import pytest

from splitvote.harness.errors import ConfigError
from splitvote.harness.result import Verdict
from splitvote.reports.index.serving import StoreServer, serve
from tests.reports.nightly_stores import night, nights

SECRET = "this lies outside of the store"


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A file beside the store that nobody may see."""
    path = tmp_path / "secret.txt"
    path.write_text(SECRET)
    return path


@pytest.fixture
def server(tmp_path: Path, outside: Path) -> Iterator[StoreServer]:
    """A store of many nights on a free port of this machine."""
    store = nights(tmp_path / "store")
    with StoreServer(store, port=0) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def ask(server: StoreServer, path: str, *, method: str = "GET", host: str | None = None) -> tuple[HTTPResponse, bytes]:
    """Send the path as it stands, as no browser would."""
    connection = HTTPConnection("127.0.0.1", server.server_port, timeout=60)
    connection.putrequest(method, path, skip_host=True)
    connection.putheader("Host", host or f"127.0.0.1:{server.server_port}")
    connection.endheaders()
    response = connection.getresponse()
    content = response.read()
    connection.close()
    return response, content


def run_of(server: StoreServer, test: str = "kv") -> Path:
    return sorted(path for path in (server.root / test).iterdir() if not path.is_symlink())[0]


@pytest.mark.parametrize("path", ["/", "/index.html", "/compare.html?a=kv/x&b=kv/y"])
def test_pages_are_made_when_asked_for(server: StoreServer, path: str) -> None:
    """The index and the comparison are there without having been written."""
    response, content = ask(server, path)
    assert response.status == 200
    assert response.getheader("Content-Type") == "text/html; charset=utf-8"
    assert b"Served at" in content
    assert not (server.root / "index.html").exists()


def test_a_run_that_came_later_is_listed(server: StoreServer) -> None:
    """Every request looks at the store anew."""
    before = len(server.scanner.scan().runs)
    night(server.root, "kv", 99, Verdict.INVALID)
    ask(server, "/")
    assert len(server.scanner.scan().runs) == before + 1


def test_files_of_runs_are_served_as_what_they_are(server: StoreServer) -> None:
    """A report as a page, JSON as JSON, logs as text, also through the store's own `latest`; HEAD without content."""
    name = run_of(server).name
    for path, kind in (
        (f"/kv/{name}/report.html", "text/html; charset=utf-8"),
        (f"/kv/{name}/results.json", "application/json"),
        (f"/kv/{name}/logs/n1.log", "text/plain; charset=utf-8"),
        ("/latest/results.json", "application/json"),
    ):
        response, content = ask(server, path)
        assert (response.status, response.getheader("Content-Type")) == (200, kind)
        assert response.getheader("X-Content-Type-Options") == "nosniff"
        assert len(content) == int(response.getheader("Content-Length") or 0) > 0
        assert ask(server, path, method="HEAD")[1] == b""


def test_a_page_that_is_none_of_ours_is_text(server: StoreServer) -> None:
    """Whatever a member left in its data directory does not run in the browser."""
    run = run_of(server)
    (run / "data").mkdir()
    (run / "data" / "evil.html").write_text("<script>alert(1)</script>")
    response, _ = ask(server, f"/kv/{run.name}/data/evil.html")
    assert response.getheader("Content-Type") == "text/plain; charset=utf-8"


def escapes(outside: Path) -> list[str]:
    """Ways out of the store."""
    full = str(outside)
    return [
        "/../secret.txt",
        "/kv/../../secret.txt",
        "/%2e%2e/secret.txt",
        "/kv/%2e%2e/%2e%2e/secret.txt",
        "/..%2fsecret.txt",
        "/kv/..%2f..%2fsecret.txt",
        "/..%5csecret.txt",
        "/%252e%252e/secret.txt",
        full,
        f"/{full}",
        quote(full, safe=""),
        f"/{quote(full, safe='')}",
        f"file://{full}",
        f"/kv/{quote(full, safe='')}",
        "/kv/./../../secret.txt",
        "/zip/../secret.txt.zip",
        "/zip/%2e%2e/secret.txt.zip",
        "/zip/kv/%2e%2e.zip",
        "/out",
        "/out/",
        "/out/secret.txt",
        "/kv/linked/secret.txt",
        "/kv/linked.txt",
        "/zip/kv/linked.zip",
        "/secret.txt%00.html",
    ]


def test_no_path_leads_outside(server: StoreServer, outside: Path) -> None:
    """Traversal in every spelling, absolute paths, links to files and folders outside: nothing is found."""
    (server.root / "out").symlink_to(outside.parent)
    (server.root / "kv" / "linked").symlink_to(outside.parent)
    (server.root / "kv" / "linked.txt").symlink_to(outside)
    for path in escapes(outside):
        response, content = ask(server, path)
        assert response.status in (400, 404), path
        assert SECRET.encode() not in content, path


def test_a_run_that_is_a_link_to_outside_is_neither_listed_nor_zipped(server: StoreServer, tmp_path: Path) -> None:
    """A folder elsewhere stays there, even when it is a run."""
    elsewhere = night(tmp_path / "elsewhere", "kv", 1)
    (server.root / "kv" / "20200101T000000-1").symlink_to(elsewhere.path)
    assert ask(server, "/zip/kv/20200101T000000-1.zip")[0].status == 404
    assert all(listed.entry.run != "20200101T000000-1" for listed in server.scanner.scan().runs)


@pytest.mark.parametrize("path", ["/.index.json", "/kv/.hidden", "/kv/seen-as", "/.", "/kv/."])
def test_what_begins_with_a_dot_is_not_served(server: StoreServer, path: str) -> None:
    """Caches and unfinished files are nobody's business, under a link's name neither."""
    (server.root / "kv" / ".hidden").write_text("x")
    (server.root / "kv" / "seen-as").symlink_to(".hidden")
    ask(server, "/")
    assert (server.root / ".index.json").exists()
    assert ask(server, path)[0].status == 404


def test_a_pipe_is_no_file(server: StoreServer) -> None:
    """Nobody waits for its other end."""
    os.mkfifo(server.root / "kv" / "pipe")
    assert ask(server, "/kv/pipe")[0].status == 404


def test_folders_are_listed_with_their_names_as_text(server: StoreServer) -> None:
    """A listing links to what is there; an address without the slash is sent to the one with it."""
    run = run_of(server)
    evil = run / "logs" / "<img src=x onerror=alert(1)>.log"
    evil.write_text("x")
    response, _ = ask(server, f"/kv/{run.name}/logs")
    assert (response.status, response.getheader("Location")) == (301, "./logs/")
    response, content = ask(server, f"/kv/{run.name}/logs/")
    assert response.status == 200
    assert b"n1.log" in content
    assert b"<img" not in content
    assert ask(server, f"/kv/{run.name}/logs/{quote(evil.name)}")[1] == b"x"


def test_a_run_is_served_as_a_zip(server: StoreServer) -> None:
    """The whole run, made as it is sent."""
    run = run_of(server)
    response, content = ask(server, f"/zip/kv/{run.name}.zip")
    assert response.status == 200
    assert f"kv-{run.name}.zip" in (response.getheader("Content-Disposition") or "")
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.testzip() is None
        assert archive.read(f"kv/{run.name}/config.json") == (run / "config.json").read_bytes()


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:1", 200),
        ("[::1]:8400", 200),
        ("127.0.0.1", 200),
        ("evil.example", 403),
        ("127.0.0.1.evil.example", 403),
    ],
)
def test_another_hosts_name_is_refused(server: StoreServer, host: str, status: int) -> None:
    """A page elsewhere whose name was made to lead here cannot read the store."""
    assert ask(server, "/", host=host)[0].status == status


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_nothing_can_be_changed(server: StoreServer, method: str) -> None:
    """It answers to GET and HEAD only."""
    assert ask(server, "/", method=method)[0].status == 501


def test_it_listens_on_this_machine_unless_told_otherwise(server: StoreServer) -> None:
    """127.0.0.1 by default; an address that cannot be, or a port that is taken, is one line."""
    assert server.server_address[0] == "127.0.0.1"
    assert server.url == f"http://127.0.0.1:{server.server_port}/"
    with pytest.raises(ConfigError, match="choose another --port"):
        serve(server.root, port=server.server_port)
    with pytest.raises(ConfigError, match="is no store"):
        serve(server.root / "nowhere")


def test_it_serves_on_version_six_as_well(tmp_path: Path) -> None:
    """``--host ::1`` is an address like another, in brackets."""
    try:
        with StoreServer(tmp_path, host="::1", port=0) as server:
            assert server.url == f"http://[::1]:{server.server_port}/"
            assert server.is_local
    except ConfigError:
        pytest.skip("this machine has no ::1")
