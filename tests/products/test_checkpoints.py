"""Where checkpoints go outside of the database: a file, and an address of the operator's that is posted to and nothing more."""

import json
import logging
import socket
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, connection, transaction

from admin_console import env
from products import checkpoints
from products.models import Checkpoint


class Listener(HTTPServer):
    """A server that notes what it gets, and answers with a way to somewhere else."""

    def __init__(self) -> None:
        self.got: list[tuple[str, str, bytes]] = []
        super().__init__(("127.0.0.1", 0), Answer)


class Answer(BaseHTTPRequestHandler):
    server: Listener

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append(("POST", self.path, body))
        self.send_response(307)
        self.send_header("Location", "/elsewhere")
        self.end_headers()

    def do_GET(self) -> None:
        self.server.got.append(("GET", self.path, b""))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def listener() -> Iterator[Listener]:
    with Listener() as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def made(settings, tmp_path) -> Checkpoint:
    settings.HISTORY_CHECKPOINTS = tmp_path / "checkpoints.jsonl"
    payload = '{"chains": {}}'
    return Checkpoint(payload=payload, signature=checkpoints.sign(payload), key=checkpoints.public_key())


def test_the_file_is_appended_to(made, settings):
    checkpoints.publish(made)
    checkpoints.publish(made)

    found = list(checkpoints.read(settings.HISTORY_CHECKPOINTS))
    assert found == [checkpoints.Signed(made.payload, made.signature, made.key)] * 2
    assert all(signed and signed.is_genuine for signed in found)


def test_it_is_posted_and_led_nowhere_else(made, settings, listener):
    settings.HISTORY_WEBHOOK = f"http://127.0.0.1:{listener.server_port}/checkpoints"
    checkpoints.publish(made)

    ((method, path, body),) = listener.got
    assert (method, path) == ("POST", "/checkpoints")
    assert json.loads(body) == {"payload": made.payload, "signature": made.signature, "key": made.key}


def test_where_it_cannot_be_put_is_logged_and_stops_nothing(made, settings, tmp_path, caplog):
    settings.HISTORY_CHECKPOINTS = tmp_path / "nowhere" / "checkpoints.jsonl"
    settings.HISTORY_WEBHOOK = "http://127.0.0.1:1/"
    with caplog.at_level(logging.INFO, logger="products.checkpoints"):
        checkpoints.publish(made)

    assert [record.message for record in caplog.records] == ["checkpoint", "checkpoint_not_written", "checkpoint_not_posted"]


def test_an_answer_that_is_no_http_stops_nothing(made, settings, caplog):
    with socket.create_server(("127.0.0.1", 0)) as server:
        settings.HISTORY_WEBHOOK = f"http://127.0.0.1:{server.getsockname()[1]}/"
        talk = Thread(target=_answer_nonsense, args=[server])
        talk.start()
        checkpoints.publish(made)
        talk.join()

    assert caplog.records[-1].message == "checkpoint_not_posted"


def _answer_nonsense(server: socket.socket) -> None:
    client, _ = server.accept()
    with client:
        client.recv(65536)
        client.sendall(b"220 Another service than you think\r\n")


@pytest.mark.parametrize(
    "address", ["http://example.com/", "https://user:secret@example.com/", "https://", "file:///etc/passwd", "x"]
)
def test_only_an_https_address_without_a_password_is_posted_to(address, monkeypatch):
    monkeypatch.setenv("HISTORY_WEBHOOK", address)
    with pytest.raises(ImproperlyConfigured, match="expected https") as refused:
        env.https_address("HISTORY_WEBHOOK")
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("address", ["", "https://example.com/checkpoints?of=us"])
def test_an_https_address_or_none_is_taken(address, monkeypatch):
    monkeypatch.setenv("HISTORY_WEBHOOK", address)
    assert env.https_address("HISTORY_WEBHOOK") == address


def test_what_the_key_signed_that_is_no_checkpoint_is_none(made):
    """As the manifest of an evidence pack, which anybody can copy together with its signature."""
    manifest = '{"format": 1}'
    assert not checkpoints.Signed(manifest, checkpoints.sign(manifest), made.key).is_genuine


@pytest.mark.django_db
@pytest.mark.parametrize(("columns", "values"), [("id, at", "7, now()"), ("at", "'infinity'"), ("at", "'-infinity'")])
def test_nobody_adds_one_whose_number_or_time_would_stop_others(columns, values):
    refused = pytest.raises(DatabaseError, match=r"permission denied|of_our_time")
    with refused, transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f"INSERT INTO products_checkpoint ({columns}, payload, signature, key) VALUES ({values}, '', '', '')")


@pytest.mark.parametrize(
    "change", [{"payload": "{}"}, {"signature": "00" * 64}, {"signature": "no"}, {"key": "00" * 32}, {"key": ""}]
)
def test_a_signature_of_anything_else_is_not_genuine(made, change):
    told = {"payload": made.payload, "signature": made.signature, "key": made.key}
    assert checkpoints.Signed(**told).is_genuine
    assert not checkpoints.Signed(**{**told, **change}).is_genuine
