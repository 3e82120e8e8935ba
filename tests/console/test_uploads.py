"""The console takes no files, from nobody."""

import tempfile
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse


@pytest.mark.parametrize("csrf", [True, False])
def test_a_file_is_refused_and_reaches_no_disk(db: None, monkeypatch: pytest.MonkeyPatch, csrf: bool) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("a file was made")

    monkeypatch.setattr(tempfile, "NamedTemporaryFile", refuse)
    file = SimpleUploadedFile("large", b"x" * 3_000_000)
    client = Client(enforce_csrf_checks=csrf)
    client.get(reverse("account_login"))
    answer = client.post(reverse("account_login"), {"login": file})
    assert answer.status_code == 400
    assert "This request cannot be read" in answer.text


def test_a_form_without_a_file_is_read(client: Client, db: None) -> None:
    assert client.post(reverse("account_login"), {"login": "nobody@example.com", "password": "wrong"}).status_code == 200
