#!/usr/bin/env python3
"""An etcd that serves gofail's documented endpoint, as a stock one does not: the real one beside it.

REAL_ETCD names the real one, which else is /usr/bin/etcd.
GOFAIL_HTTP is where it serves.  Terms are kept and told; "panic" ends the etcd
as a panic would, with its words, and anything else changes nothing.  The server
is a child that ends with the etcd.
"""

import ctypes
import http.server
import os
import signal
import sys

POINTS = {"raftBeforeSave": "", "beforeCommit": ""}


class Endpoint(http.server.BaseHTTPRequestHandler):
    def log_message(self, *about: object) -> None:
        pass

    def _answer(self, status: int, text: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def do_GET(self) -> None:
        self._answer(200, "".join(f"{point}={terms}\n" for point, terms in POINTS.items()))

    def do_PUT(self) -> None:
        terms = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        point = self.path.lstrip("/")
        if point not in POINTS:
            return self._answer(400, f"failed to set failpoint {point}")
        POINTS[point] = terms
        self._answer(204)
        if terms == "panic":
            os.write(2, f"panic: failpoint panic: {point}\n".encode())
            os.kill(os.getppid(), signal.SIGKILL)
        return None

    def do_DELETE(self) -> None:
        point = self.path.lstrip("/")
        if not POINTS.get(point):
            return self._answer(400, f"failed to delete failpoint {point}")
        POINTS[point] = ""
        return self._answer(204)


def main() -> None:
    etcd, where = os.environ.get("REAL_ETCD", "/usr/bin/etcd"), os.environ.get("GOFAIL_HTTP")
    if where is not None and os.fork() == 0:
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        host, port = where.split(":")
        http.server.HTTPServer.allow_reuse_address = True
        http.server.HTTPServer((host, int(port)), Endpoint).serve_forever()
    os.execv(etcd, [etcd, *sys.argv[1:]])


if __name__ == "__main__":
    main()
