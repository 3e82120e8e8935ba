"""The numbers of members in the list of user groups, of which the list does not wait for long."""

import html
import re

import psycopg
import pytest
from django.test import Client

from tests.console.pages import shown
from tests.database import Database
from tests.factories import make_group, make_user
from users.models import Role


def test_where_counting_takes_long_the_numbers_of_members_follow_the_list(
    committed_db: Database, client: Client, superuser_connection: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.force_login(make_user(role=Role.ADMIN))
    sales, web = make_group("Sales"), make_group("Web")
    make_user(groups=[sales])

    superuser_connection.execute("LOCK TABLE users_groupmembership")
    page = client.get("/groups/?search=sales").text
    monkeypatch.setattr("admin_console.views.groups.LONGEST", "100ms")
    given_up = shown(client.get("/groups/?search=sales&counted=1"))
    superuser_connection.rollback()
    follows = re.search('hx-get="([^"]+)" hx-trigger="load" hx-target="#groups-members"', page)
    assert follows
    waiting = f'<span id="members-{sales.pk}"><span class="soft needs-script">…</span>'
    assert f'{waiting}<noscript><a href="{follows[1]}">Count</a></noscript></span>' in page
    counted = client.get(html.unescape(follows[1]), headers={"HX-Request": "true", "HX-Target": "groups-members"})

    assert "Sales could not be counted – Nobody" in given_up
    assert f'<span id="members-{sales.pk}" hx-swap-oob="true"><a href="/users/?group={sales.pk}">1<' in counted.text
    assert f"members-{web.pk}" not in counted.text
    assert "<table" not in counted.text
    assert "groups-members" not in client.get("/groups/").text
