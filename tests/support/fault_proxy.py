"""An HTTP proxy in front of a real store that fails as networks and stores do.

The Host header passes through as it was sent, so that signatures stay valid.
"""

from __future__ import annotations

import http.client
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote, urlsplit
from xml.etree import ElementTree


@dataclass(frozen=True)
class Request:
    method: str
    target: str  # path and query as sent


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


@dataclass
class Fault:
    """What happens to the next `times` requests that `on` picks.

    status: answer this instead, with `code` as S3's error. reset: "before" or "after" the store saw it.
    cut: send so many bytes of the body and hang up. delay: seconds before the answer. edit: another body.
    """

    on: Callable[[Request], bool] = lambda request: True
    times: int = 1_000_000
    status: int | None = None
    code: str = "SlowDown"
    headers: dict[str, str] = field(default_factory=dict)
    reset: str | None = None
    cut: int | None = None
    delay: float = 0.0
    edit: Callable[[bytes], bytes] | None = None


class FaultProxy:
    """`url` stands in for the endpoint; `seen` holds every request.

    page_keys: how many keys a listed page holds; needs a server that does not verify signatures.
    """

    def __init__(self, endpoint: str, page_keys: int | None = None) -> None:
        self.page_keys = page_keys
        self.endpoint = urlsplit(endpoint)
        self.faults: list[Fault] = []
        self.seen: list[Request] = []
        self.url = ""
        self._lock = threading.Lock()

    def add(self, fault: Fault) -> None:
        self.faults.append(fault)

    def take(self, request: Request) -> Fault | None:
        with self._lock:
            self.seen.append(request)
            for fault in self.faults:
                if fault.times > 0 and fault.on(request):
                    fault.times -= 1
                    return fault
        return None

    def forward(self, request: Request, headers: dict[str, str], body: bytes) -> Answer:
        connection = http.client.HTTPConnection(self.endpoint.hostname or "", self.endpoint.port, timeout=60)
        try:
            paged = self.page_keys is not None and "list-type=2" in request.target
            target = f"{request.target}&max-keys={self.page_keys}" if paged else request.target
            connection.putrequest(request.method, target, skip_host=True, skip_accept_encoding=True)
            for name, value in headers.items():
                connection.putheader(name, value)
            connection.endheaders(body)
            answer = connection.getresponse()
            hop = ("transfer-encoding", "connection", "content-length")
            kept = {name: value for name, value in answer.getheaders() if name.lower() not in hop}
            if request.method == "HEAD" and answer.getheader("Content-Length"):
                kept["Content-Length"] = answer.getheader("Content-Length") or "0"
            return Answer(answer.status, kept, answer.read())
        finally:
            connection.close()


class ComparingProxy(FaultProxy):
    """Holds each key of a bulk delete against its ETag, as S3 does and the server behind does not."""

    def forward(self, request: Request, headers: dict[str, str], body: bytes) -> Answer:
        if request.method != "POST" or "delete" not in request.target:
            return super().forward(request, headers, body)
        root = ElementTree.fromstring(body)
        space = root.tag.removesuffix("Delete")
        kept = b""
        asker = {name: value for name, value in headers.items() if name.lower() in ("host", "authorization")}
        for entry in root.findall(f"{space}Object"):
            key, etag = entry.findtext(f"{space}Key") or "", entry.findtext(f"{space}ETag")
            target = f"{urlsplit(request.target).path.rstrip('/')}/{quote(key)}"
            now = super().forward(Request("HEAD", target), asker, b"")
            if etag is not None and now.status == 200 and now.headers.get("ETag") != etag:
                root.remove(entry)
                kept += b"<Error><Key>%s</Key><Code>PreconditionFailed</Code></Error>" % key.encode()
        if not root.findall(f"{space}Object"):
            return Answer(200, {"Content-Type": "application/xml"}, b"<DeleteResult>%s</DeleteResult>" % kept)
        rest = ElementTree.tostring(root, default_namespace=space.strip("{}") or None)
        changed = ("content-length", "content-md5")
        length = {name: value for name, value in headers.items() if name.lower() not in changed}
        answer = super().forward(request, length | {"Content-Length": str(len(rest))}, rest)
        return Answer(answer.status, answer.headers, answer.body.replace(b"</DeleteResult>", kept + b"</DeleteResult>"))


@contextmanager
def fault_proxy(
    endpoint: str, page_keys: int | None = None, kind: type[FaultProxy] = FaultProxy
) -> Iterator[FaultProxy]:
    """A proxy without faults; add some with `add`."""
    proxy = kind(endpoint, page_keys)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            request = Request(self.command, self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            fault = proxy.take(request) or Fault()
            time.sleep(fault.delay)
            if fault.reset == "before":
                return self.hang_up()
            if fault.status is not None:
                text = (
                    f"<Error><Code>{fault.code}</Code><Message>no</Message></Error>" if self.command != "HEAD" else ""
                )
                date = {"Date": self.date_time_string()}
                return self.send(Answer(fault.status, date | fault.headers, text.encode()))
            answer = proxy.forward(request, dict(self.headers.items()), body)
            if fault.reset == "after":
                return self.hang_up()
            if fault.edit is not None:
                answer = Answer(answer.status, answer.headers, fault.edit(answer.body))
            return self.send(answer, fault.cut)

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_any

        def send(self, answer: Answer, cut: int | None = None) -> None:
            self.send_response_only(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            if "Content-Length" not in answer.headers:
                self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body[:cut])
            if cut is not None:
                self.hang_up()

        def hang_up(self) -> None:
            # Linger 0 turns the close into a reset, as a dying server or a firewall does.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.wfile.flush()
            self.close_connection = True
            self.connection.close()

        def log_message(self, format: str, *args: object) -> None:
            return

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            return  # clients hang up on purpose here

    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    proxy.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()
