"""What the console told is found again in the header, for as long as one is signed in."""

import re
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as project
from django.test import Client
from django.utils.timezone import now

from products import actions
from tests.console.pages import shown
from tests.factories import change, make_user, run
from users.models import User

pytestmark = pytest.mark.django_db


def notices(client: Client) -> str:
    return shown(client.get("/notices/", headers={"HX-Request": "true"}))


def test_what_was_told_is_found_again_the_newest_first(client: Client, ada: User) -> None:
    assert "is kept here until you sign out" in notices(client)
    first = client.post("/me/", {"language": "", "time_zone": ""}, follow=True)
    assert 'class="toast alert-good"' in first.content.decode()

    assert "Your language and time zone are saved." in notices(client)
    assert 'class="toast alert-good"' not in client.get("/me/").content.decode()
    assert "Your language and time zone are saved." in notices(client)


def test_the_end_of_a_change_offers_its_undo_then_and_later(client: Client, ada: User, settings: Any) -> None:
    settings.BULK_AT_ONCE, settings.BULK_BATCH_SIZE = 1, 1
    made = change(ada, [make_user("Grace Hopper"), make_user("Alan Turing")], "rescue", now=now())
    actions.advance_bulk_change(change_id=made.pk, now=now())
    client.get("/users/")
    run(made)

    page = client.get("/products/")
    assert f"/changes/{made.pk}/undo/" in page.content.decode().partition('id="toasts"')[2]
    assert "Notices 1 new" in shown(page)
    assert f"Change #{made.pk} is finished: 2 users changed." in notices(client)
    assert "Undo…" in notices(client)
    assert "Notices 1 new" not in shown(client.get("/products/"))  # looked at


def test_only_the_latest_are_kept(client: Client, ada: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("admin_console.notices.MOST", 3)
    for _ in range(5):
        client.post("/me/", {"language": "", "time_zone": ""}, follow=True)

    assert notices(client).count("are saved") == 3


def test_of_several_toasts_the_new_one_is_read_alone() -> None:
    """A status is read as a whole each time unless it says otherwise."""
    pages = [path.read_text() for path in (Path(project.BASE_DIR) / "templates").rglob("*.html")]
    regions = [tag for page in pages for tag in re.findall('<div[^>]* class="toasts"[^>]*>|<div class="toasts"[^>]*>', page)]

    assert len(regions) == 4
    assert [tag for tag in regions if 'role="status"' not in tag or 'aria-atomic="false"' not in tag] == []
