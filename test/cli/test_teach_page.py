"""The page of ``geoseg teach``: what it does for itself, and what it refuses."""

import http.client
import json
import socket
import threading

import cv2
import numpy as np
import pytest

from geoseg_ros.cli.main import main
from geoseg_ros.cli.teach_page import Page
from geoseg_ros.errors import GeosegError, InputError


class Teacher:
    """Notes what it is asked."""

    def __init__(self):
        self.asked = []

    def state(self):
        return {"state": "idle", "streams": ["image"], "message": "idle"}

    def picture(self, stream):
        if stream == "cloud":
            raise InputError("cloud: no message\nhas come")
        return np.full((6, 8, 3), (255, 0, 0), np.uint8), 1_700_000_000_123_456_789

    def start(self, name):
        if name == "silent":
            raise GeosegError("/coseg_node has not replied for 30 s")
        return name != "bad", f"learning {name}"

    def add(self, *what):
        self.asked.append(what)
        return True, "taken", [1.0, 2.0, 3.0, 4.0]

    def trigger(self, what):
        self.asked.append(what)
        return True, what


@pytest.fixture(scope="module")
def page():
    page = Page(Teacher(), lambda: None, 0)
    threading.Thread(target=page.serve_forever, daemon=True).start()
    yield page
    page.shutdown()
    page.server_close()


def ask(page, method, path, body=None, **headers):
    connection = http.client.HTTPConnection("127.0.0.1", page.server_port, timeout=10)
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    if body is not None:
        headers.setdefault("Content-Type", "application/json")
    connection.request(method, path, body if body is None or isinstance(body, bytes) else json.dumps(body), headers)
    reply = connection.getresponse()
    data = reply.read()
    connection.close()
    return reply, data


def test_the_page_and_its_pictures(page):
    reply, data = ask(page, "GET", "/")
    assert reply.status == 200 and b"geoseg teach" in data and "connect-src 'self'" in reply.headers["Content-Security-Policy"]
    assert b"http://" not in data and b"https://" not in data and b"src=" not in data, "nothing from elsewhere"
    reply, data = ask(page, "GET", "/picture/image")
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert reply.headers["X-Stamp"] == "1700000000123456789" and picture.shape == (6, 8, 3) and picture[0, 0, 2] > 240
    assert json.loads(ask(page, "GET", "/picture/cloud")[1]) == {"success": False, "message": "cloud: no message has come"}
    assert json.loads(ask(page, "GET", "/state")[1])["streams"] == ["image"] and ask(page, "GET", "/found")[0].status == 404


def test_clicks_reach_the_node(page):
    assert json.loads(ask(page, "POST", "/start", {"name": "mug"})[1]) == {"success": True, "message": "learning mug"}
    assert json.loads(ask(page, "POST", "/start", {"name": "bad"})[1])["success"] is False
    assert "not replied" in json.loads(ask(page, "POST", "/start", {"name": "silent"})[1])["message"]
    click = {"stream": "image", "stamp": "1700000000123456789", "positive": False, "click": [3, 4.5]}
    assert json.loads(ask(page, "POST", "/add", click)[1])["taken"] == [1, 2, 3, 4]
    assert ask(page, "POST", "/finish", {})[0].status == 200
    assert page.node.asked[-2:] == [("image", 1_700_000_000_123_456_789, False, [3.0, 4.5], []), "finish"]


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "status"),
    [
        ("GET", "/../../etc/passwd", None, {}, 404),
        ("GET", "/picture/../../secret", None, {}, 404),
        ("GET", "/%2e%2e/teach.py", None, {}, 404),
        ("GET", "/start", None, {}, 404),
        ("POST", "/", {}, {}, 404),
        ("POST", "/../add", {}, {}, 404),
        ("PUT", "/start", {"name": "mug"}, {}, 501),
        ("OPTIONS", "/start", None, {}, 501),
        ("GET", "/", None, {"Host": "evil.example"}, 403),
        ("GET", "/state", None, {"Host": "evil.example:80"}, 403),
        ("POST", "/cancel", {}, {"Origin": "http://evil.example"}, 403),
        ("POST", "/cancel", {}, {"Origin": "null"}, 403),
        ("GET", "/picture/image", None, {"Sec_Fetch_Site": "cross-site"}, 403),
        ("POST", "/cancel", {}, {"Content_Type": "text/plain"}, 415),
        ("POST", "/cancel", {}, {"Content_Type": "application/x-www-form-urlencoded"}, 415),
        ("POST", "/start", b"{", {}, 400),
        ("POST", "/start", b"[" * 9000, {}, 400),
        ("POST", "/start", [], {}, 400),
        ("POST", "/start", {}, {}, 400),
        ("POST", "/start", {"name": 5}, {}, 400),
        ("POST", "/add", {"stream": "image", "stamp": "-1", "positive": True}, {}, 400),
        ("POST", "/add", {"stream": "image", "stamp": "9" * 30, "positive": True}, {}, 400),
        ("POST", "/add", {"stream": "image", "stamp": "1", "positive": True, "click": ["x", 1]}, {}, 400),
        ("POST", "/add", {"stream": "image", "stamp": "1", "positive": True, "box": {"x": 1}}, {}, 400),
        ("POST", "/add", b'{"stream": "image", "stamp": "1", "positive": true, "click": [NaN, 1e999]}', {}, 400),
        ("POST", "/add", {"stream": "image", "stamp": "1"}, {}, 400),
    ],
)
def test_what_is_hostile_is_refused(page, method, path, body, headers, status):
    before = list(page.node.asked)
    reply, data = ask(page, method, path, body, **headers)
    assert reply.status == status and page.node.asked == before and b"Traceback" not in data


def test_bodies_are_bounded(page):
    for length, status in (("99999999", b"413"), ("9" * 30, b"413"), ("-5", b"411"), ("", b"411")):
        with socket.create_connection(("127.0.0.1", page.server_port), 10) as connection:
            head = f"POST /start HTTP/1.1\r\nHost: 127.0.0.1:{page.server_port}\r\nContent-Type: application/json\r\n"
            head += f"Content-Length: {length}\r\n\r\n"
            connection.sendall(head.encode() + b"x" * 100)
            assert connection.recv(100).split()[1] == status


def test_it_listens_on_this_machine_alone(page):
    assert page.server_address[0] == "127.0.0.1"
    with pytest.raises(InputError, match="cannot be used"):
        Page(Teacher(), lambda: None, page.server_port)


def test_bad_options(capsys):
    assert main(["teach", "--port", "70000"]) == 2 and "--port: expected 0 to 65535" in capsys.readouterr().err
