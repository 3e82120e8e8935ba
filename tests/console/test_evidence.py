"""The page of evidence packs: who may ask for one, what it will tell, and fetching it."""

import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.test import Client
from django.utils import timezone

from products import evidence
from products.evidence import HistoryFilter
from products.models import EvidencePack
from tests.console.pages import nameless
from tests.database import Database
from tests.factories import give, ids, make_user
from users.models import CAPABILITIES, Action, AdminAction, Capability, Role


def text_of(response: Any) -> str:
    return response.content.decode()


def test_support_asks_for_the_rows_of_a_list_and_fetches_the_pack(
    committed_db: Database, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "EVIDENCE_FOLDER", tmp_path / "evidence")
    client.force_login(make_user("Sam Support", role=Role.SUPPORT))
    give(make_user("Grace Hopper"), "meeting")

    listed = text_of(client.get("/admin/products/accesschange/", {"person": "hopper", "granted": ids("meeting")[0]}))
    way = f"/evidence/?person=hopper&amp;granted={ids('meeting')[0]}"
    page = text_of(client.get(way.replace("&amp;", "&")))
    answer = client.post("/evidence/make/", {"person": "hopper", "granted": ids("meeting")[0]})
    pack = EvidencePack.objects.get()
    packs = {"HX-Request": "true", "HX-Target": "packs"}
    waiting = text_of(client.get("/evidence/"))
    assert nameless(client.get("/evidence/", headers=packs)) == []
    while evidence.advance(pack_id=pack.pk, now=timezone.now()):
        pass
    answered = client.get("/evidence/", headers=packs)
    ready = text_of(answered)
    file = client.get(f"/evidence/{pack.pk}/pack.zip")

    assert f'href="{way}"' in listed
    assert "<strong>user: hopper, granted: GoTo Meeting</strong>" in page
    assert (answer.status_code, answer["Location"]) == (303, "/evidence/")
    assert 'hx-trigger="every 2s"' in waiting
    assert f"/evidence/{pack.pk}/pack.zip" not in waiting
    said = f'id="pack-{pack.pk}-state" data-say><span class="visually-hidden">Pack #{pack.pk} </span>'
    assert f"{said}Waiting" in waiting
    assert f"{said}Ready" in ready
    assert nameless(answered) == []
    assert "every 2s" not in ready
    assert "<html" not in ready
    assert f'<a id="pack-{pack.pk}" href="/evidence/{pack.pk}/pack.zip"' in ready
    assert file["Content-Disposition"] == f'attachment; filename="evidence-{pack.pk}.zip"'
    archive = zipfile.ZipFile(BytesIO(b"".join(file.streaming_content)))  # type: ignore[attr-defined]
    assert {"manifest.json", "manifest.sig", "verify.py", "README.txt"} <= set(archive.namelist())
    fetched = AdminAction.objects.get(action=Action.EVIDENCE_VIEWED, after__page=f"/evidence/{pack.pk}/pack.zip")
    assert fetched.subject_id == pack.pk

    evidence.path_of(pack).unlink()
    assert client.get(f"/evidence/{pack.pk}/pack.zip").status_code == 404


@pytest.mark.django_db
def test_who_may_not_export_neither_asks_nor_fetches(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    pack = evidence.request_pack(actor=make_user(role=Role.SUPER_ADMIN), wanted=HistoryFilter(), now=timezone.now())
    pages = ["/evidence/", f"/evidence/{pack.pk}/pack.zip"]

    assert [client.get(page).status_code for page in pages] == [302, 302]
    client.force_login(make_user(role=Role.ADMIN))
    assert [client.get(page).status_code for page in pages] == [403, 403]
    assert client.post("/evidence/make/").status_code == 403

    client.force_login(make_user(role=Role.SUPPORT))
    assert client.get(pages[1]).status_code == 404  # not ready
    monkeypatch.setitem(CAPABILITIES, Role.SUPPORT, CAPABILITIES[Role.SUPPORT] - {Capability.EXPORT_EVIDENCE})
    assert [client.get(page).status_code for page in pages] == [403, 403]
    assert client.post("/evidence/make/").status_code == 403
    assert "/evidence/" not in text_of(client.get("/admin/products/accesschange/"))
    assert EvidencePack.objects.count() == 1


@pytest.mark.django_db
def test_a_filter_that_cannot_be_makes_no_pack(client: Client) -> None:
    client.force_login(make_user(role=Role.SUPPORT))

    assert "“x” is not a number." in text_of(client.get("/evidence/", {"granted": "x"}))
    assert client.post("/evidence/make/", {"granted": "x"}).status_code == 422
    assert client.get("/evidence/make/").status_code == 405
    assert not EvidencePack.objects.exists()
