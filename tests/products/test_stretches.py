"""Where in a long history rows of a kind can be: sealed blocks that hold none are passed over, and no row is ever missed."""

import psycopg
import pytest
from django.db import ProgrammingError, connection
from django.test import Client

from products.models import AccessChange, Source
from products.sealing import seal
from products.stretches import Kind, stretches, summarise
from tests.database import Database
from tests.factories import change, give, ids, make_holders, make_user
from users.models import Role

HISTORY = "/admin/products/accesschange/"


def sealed() -> int:
    """Seal and summarise what there is; return the last row's id."""
    seal()
    summarise()
    return AccessChange.objects.latest("id").pk


@pytest.mark.django_db
def test_what_is_not_summarised_is_looked_at_in_stretches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("products.stretches.UNKNOWN", 3)
    make_holders(8, "meeting")
    last = AccessChange.objects.latest("id").pk

    found = stretches(Kind(granted=ids("rescue")[0]), first=last - 6)

    assert [(each.first, each.last) for each in found] == [(last - 2, last), (last - 5, last - 3), (last - 6, last - 6)]


def test_rare_rows_are_found_by_looking_where_they_can_be(committed_db: Database, client: Client) -> None:
    ada, bob = make_user("Ada", role=Role.ADMIN), make_user("Bob", role=Role.ADMIN)
    grace, alan = make_user("Grace"), make_user("Alan")
    give(grace, "rescue")
    ends = [sealed()]
    for actor, user, codes in ((ada, alan, ["meeting"]), (bob, alan, ["webinar"]), (ada, grace, ["meeting", "rescue"])):
        change(actor, [user], *codes)
        ends.append(sealed())
    change(ada, [alan], "training")
    newest = AccessChange.objects.latest("id").pk
    meeting, webinar, rescue = (ids(code)[0] for code in ("meeting", "webinar", "rescue"))

    def where(**kind: object) -> list[tuple[int, int]]:
        return [(each.first, each.last) for each in stretches(Kind(**kind))]  # type: ignore[arg-type]

    tail, blocks = (ends[3] + 1, newest), list(zip([1, *(end + 1 for end in ends)], ends, strict=False))
    assert where(granted=rescue) == [tail, blocks[0]]
    assert where(granted=meeting) == [tail, blocks[3], blocks[1]]
    assert where(revoked=meeting) == [tail, blocks[2]]
    assert where(actors=(bob.pk,)) == [tail, blocks[2]]
    assert where(source=Source.HELD_BEFORE) == [tail, blocks[0]]
    assert where(granted=webinar, actors=(ada.pk,)) == [tail]
    assert where(actors=()) == [tail]
    assert [first for first, _last in where()][:-1] == [last + 1 for _first, last in where()][1:]  # without a gap

    client.force_login(make_user("Sam", role=Role.SUPPORT))
    for query in (
        {"granted": rescue},
        {"granted": meeting},
        {"by": "bob"},
        {"by": ada.pk, "granted": meeting},
        {"source": "CONSOLE"},
    ):
        page = client.get(HISTORY, query).context["cl"]
        rows = AccessChange.objects.order_by("-id")
        expected = [
            row.pk
            for row in rows
            if query.get("granted", 0) in [0, *row.granted]
            and {"bob": bob.pk, ada.pk: ada.pk}.get(query.get("by"), row.actor_id) == row.actor_id
            and query.get("source", row.source) == row.source
        ]
        assert [row.pk for row in page.result_list] == expected, query

    with pytest.raises(ProgrammingError, match="permission denied"), connection.cursor() as cursor:
        cursor.execute("DELETE FROM products_historysummary")


def test_a_summary_is_made_once_however_often_it_is_asked_for(committed_db: Database) -> None:
    give(make_user(), "meeting")
    seal()

    assert summarise() == 1
    assert summarise() == 0


def test_a_row_that_is_committed_late_is_not_passed_over(committed_db: Database) -> None:
    user, rescue = make_user(), ids("rescue")[0]
    with psycopg.connect(committed_db.console) as late:
        late.execute(
            "UPDATE products_productaccess SET products = %s, ever = %s WHERE user_id = %s", [[rescue], [rescue], user.pk]
        )
        give(make_user(), "meeting")
        seal()
        summarise()
        late.commit()
    seal()
    summarise()

    row = AccessChange.objects.get(user=user)
    assert any(each.first <= row.pk <= each.last for each in stretches(Kind(granted=rescue)))
