"""Who may see a page: a small proxy before a server on loopback. It checks each connection's first request."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hmac
import ipaddress
import secrets
import threading
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qsl, urlencode, urlsplit

from stspbr.errors import StspbrError

_MOST_PORTS = 50
_HEAD_BYTES = 1 << 16
_HEAD_SECONDS = 10.0
_COOKIE = "stspbr_view"
_CHUNK = 1 << 16


@dataclass(frozen=True)
class Answer:
    """What a request gets in place of the page: a status line, headers, and a line of text."""

    status: str
    text: str = ""
    headers: tuple[str, ...] = ()

    def encoded(self) -> bytes:
        """As HTTP/1.1; the connection ends with it."""
        body = self.text.encode()
        lines = [f"HTTP/1.1 {self.status}", "Content-Type: text/plain; charset=utf-8", f"Content-Length: {len(body)}"]
        lines += ["Connection: close", "Cache-Control: no-store", *self.headers]
        return "\r\n".join([*lines, "", ""]).encode() + body


@dataclass(frozen=True)
class Door:
    """The rules for one address.

    Without a token only this machine may ask, by a name of its own: a page of another site, whose name somebody has
    made point here, may not. With a token the first request brings it in its query, and the cookie that answers brings
    it from then on. In both cases a web socket is opened only by a page of this address.

    Attributes:
        host: that is listened on; token: None for none.
    """

    host: str
    token: str | None = None
    names: tuple[str, ...] = field(default=("localhost", "127.0.0.1", "::1"))

    def judge(self, target: str, headers: dict[str, str]) -> Answer | None:
        """None if a request may pass.

        Args:
            target: path and query; headers: by name in small letters.
        """
        host = headers.get("host", "")
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != host:
            return Answer("403 Forbidden", "this page is not for other sites\n")
        if self.token is None:
            name = urlsplit(f"//{host}").hostname
            return None if name in (*self.names, self.host) else Answer("403 Forbidden", f"use {self.names[0]}\n")
        parts = urlsplit(target)
        query = dict(parse_qsl(parts.query))
        if "token" in query:
            if not hmac.compare_digest(query.pop("token").encode(), self.token.encode()):
                return Answer("403 Forbidden", "wrong token: `stspbr view` has printed the right one\n")
            rest = parts.path + (f"?{urlencode(query)}" if query else "")
            cookie = f"Set-Cookie: {_COOKIE}={self.token}; HttpOnly; SameSite=Lax; Path=/"
            return Answer("303 See Other", headers=(f"Location: {rest}", cookie))
        if not hmac.compare_digest(_cookie(headers.get("cookie", "")).encode(), self.token.encode()):
            return Answer("403 Forbidden", "this page asks for the token that `stspbr view` has printed\n")
        return None


class Guard:
    """A proxy that listens on ``host`` and passes on what its door lets through.

    Args:
        host: to listen on; port: the first that is tried: if it is taken, the next one is.
        inner: port of the server on 127.0.0.1.
        token: asked for unless None.

    Raises:
        StspbrError: no port is free, or the address is not this machine's.
    """

    def __init__(self, host: str, port: int, inner: int, token: str | None) -> None:
        self.door, self._inner = Door(host, token), inner
        self.port = port
        self._ready = threading.Event()
        self._failure: StspbrError | None = None
        self._server: asyncio.Server
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, args=(port,), name="stspbr-view-guard", daemon=True)
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            raise self._failure

    @property
    def url(self) -> str:
        """The page's address, with the token."""
        host = self.door.host
        name = "localhost" if host in ("0.0.0.0", "::", "127.0.0.1") else f"[{host}]" if ":" in host else host
        return f"http://{name}:{self.port}/" + (f"?token={self.door.token}" if self.door.token else "")

    def close(self) -> None:
        """Stop listening."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=5)

    def _run(self, port: int) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._listen(port))
        except StspbrError as error:
            self._failure = error
        self._ready.set()
        if self._failure is None:
            self._loop.run_forever()
            self._server.close()
            self._loop.run_until_complete(self._hang_up())
        self._loop.close()

    async def _hang_up(self) -> None:
        """End all connections."""
        while tasks := asyncio.all_tasks() - {asyncio.current_task()}:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        await asyncio.sleep(0.05)  # sockets are closed a moment later

    async def _listen(self, first: int) -> None:
        host = self.door.host
        for port in range(first, min(first + _MOST_PORTS, 65536)):
            try:
                server = await asyncio.start_server(self._serve, host, port, limit=_HEAD_BYTES)
            except OSError as error:
                if error.errno == errno.EADDRINUSE or error.errno == errno.EACCES:
                    continue
                raise StspbrError(f"--host {host}: cannot listen there ({error.strerror or error})") from error
            self._server, self.port = server, server.sockets[0].getsockname()[1]
            return
        raise StspbrError(f"--port {first}: this one and the next {_MOST_PORTS - 1} are taken: choose another")

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        errors = (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError)
        with contextlib.suppress(*errors, asyncio.CancelledError), contextlib.closing(writer):
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), _HEAD_SECONDS)
            request = parsed(head)
            answer = Answer("400 Bad Request") if request is None else self.door.judge(*request)
            if answer is not None:
                writer.write(answer.encoded())
                await writer.drain()
                return
            inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", self._inner)
            with contextlib.closing(inner_writer):
                inner_writer.write(head)
                await asyncio.gather(_pass(reader, inner_writer), _pass(inner_reader, writer))


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def new_token() -> str:
    """A token that nobody guesses."""
    return secrets.token_urlsafe(18)


def parsed(head: bytes) -> tuple[str, dict[str, str]] | None:
    """Target and headers of a request's head; None if it is none."""
    lines = head.decode("latin-1").split("\r\n")
    words = lines[0].split(" ")
    if len(words) != 3 or words[0] not in ("GET", "HEAD") or not words[1].startswith("/"):
        return None
    pairs = (line.partition(":") for line in lines[1:] if ":" in line)
    return words[1], {name.strip().lower(): value.strip() for name, _, value in pairs}


def _cookie(header: str) -> str:
    try:
        found = SimpleCookie(header).get(_COOKIE)
    except CookieError:
        return ""
    return "" if found is None else found.value


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(_CHUNK):
            writer.write(data)
            await writer.drain()
    with contextlib.suppress(OSError):
        writer.close()
