"""Who may see the page: hosts, origins, tokens; and a port that is taken."""

from __future__ import annotations

import http.client
import socket
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from stspbr.errors import StspbrError
from stspbr.view.guard import Door, Guard, is_loopback, new_token, parsed
from stspbr.view.serving import require_viser


def judged(door: Door, target: str = "/", **headers: str) -> str:
    answer = door.judge(target, headers)
    return "" if answer is None else answer.status[:3]


def test_on_loopback_only_this_machine_may_ask():
    door = Door("127.0.0.1")
    assert [judged(door, host=host) for host in ("127.0.0.1:8080", "localhost:8080", "[::1]:8", "localhost")] == [
        ""
    ] * 4
    assert judged(door, host="evil.example:8080") == "403"  # a name that somebody made point here
    assert judged(door) == "403"
    assert judged(door, host="localhost:8080", origin="http://evil.example") == "403"
    assert judged(door, host="localhost:8080", origin="http://localhost:9090") == "403"
    assert judged(door, host="localhost:8080", origin="http://localhost:8080") == ""


def test_a_token_is_asked_for_and_kept_in_a_cookie():
    door = Door("0.0.0.0", "secret")
    assert judged(door, host="box:8080") == "403"
    assert judged(door, "/?token=wrong", host="box:8080") == "403"
    assert judged(door, "/?token=", host="box:8080") == "403"
    answer = door.judge("/?token=secret&a=1", {"host": "box:8080"})
    assert answer.status == "303 See Other" and "Location: /?a=1" in answer.headers
    cookie = next(line for line in answer.headers if line.startswith("Set-Cookie: "))
    assert "HttpOnly" in cookie and "SameSite=Lax" in cookie
    sent = cookie.removeprefix("Set-Cookie: ").partition(";")[0]
    assert judged(door, host="box:8080", cookie=f"other=1; {sent}") == ""
    assert judged(door, host="box:8080", cookie="stspbr_view=wrong") == "403"
    assert judged(door, host="box:8080", cookie=sent, origin="http://evil.example") == "403"


def test_requests_that_are_none():
    assert parsed(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n") == ("/", {"host": "a"})
    for head in (b"POST / HTTP/1.1\r\n\r\n", b"GET http://evil/ HTTP/1.1\r\n\r\n", b"nonsense\r\n\r\n", b"\r\n\r\n"):
        assert parsed(head) is None


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("localhost", True), ("::1", True), ("0.0.0.0", False), ("10.0.0.4", False), ("box", False)],
)
def test_loopback(host, loopback):
    assert is_loopback(host) is loopback


def test_tokens_differ():
    assert new_token() != new_token() and len(new_token()) >= 24


@pytest.fixture
def inner():
    """A server on loopback that says hello."""

    class Hello(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"hello")

        def log_message(self, *_): ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hello)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


def get(port: int, path: str = "/", **headers: str):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    return answer.status, answer.read(), answer


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_a_guard_passes_on_and_takes_the_next_port(inner):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        guard = Guard("127.0.0.1", taken, inner, None)
        try:
            assert taken < guard.port <= taken + 49
            assert guard.url == f"http://localhost:{guard.port}/"
            assert get(guard.port)[:2] == (200, b"hello")
            assert get(guard.port, Host="evil.example")[0] == 403
        finally:
            guard.close()
    with pytest.raises(OSError):
        get(guard.port)


def test_a_guard_with_a_token(inner):
    guard = Guard("0.0.0.0", free_port(), inner, "a-token")
    try:
        assert guard.url.endswith("/?token=a-token")
        assert get(guard.port)[0] == 403 and b"token" in get(guard.port)[1]
        assert get(guard.port, "/?token=b-token")[0] == 403
        status, _, answer = get(guard.port, "/?token=a-token")
        assert (status, answer.headers["Location"]) == (303, "/")
        assert get(guard.port, Cookie=answer.headers["Set-Cookie"].partition(";")[0])[:2] == (200, b"hello")
    finally:
        guard.close()


def test_an_address_of_another_machine(inner):
    with pytest.raises(StspbrError, match=r"--host 203\.0\.113\.9: cannot listen there"):
        Guard("203.0.113.9", 8080, inner, "token")


def test_without_viser_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "viser", None)
    with pytest.raises(StspbrError, match=r"need the package viser: pip install 'stspbr\[view\]'"):
        require_viser()
