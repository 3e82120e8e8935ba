"""Where in a long history rows of a kind can be: sealed blocks that hold none are passed over, and no row is ever missed."""

from datetime import timedelta

import psycopg
import pytest
from django.db import ProgrammingError, connection
from django.test import Client
from django.utils import timezone

from products.asof import Question, What, count, held_at
from products.models import AccessChange, Source
from products.retention import drop_before
from products.sealing import seal
from products.stretches import Kind, stretches, summarise
from tests.database import Database
from tests.factories import change, give, ids, make_holders, make_user, product
from users.models import Role, User

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


def test_rare_rows_are_found_by_looking_where_they_can_be(
    committed_db: Database, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("users.reading_list.ENOUGH", 60)  # however busy the machine is
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


def test_who_turned_is_noted_of_blocks_summarised_before_too_and_newest_first(committed_db: Database) -> None:
    for code in ("meeting", "rescue"):
        give(make_user(), code)
        sealed()
    with psycopg.connect(committed_db.owner) as owner:  # as they were before there was anything to note
        owner.execute("DELETE FROM products_historyturn")
        owner.execute("UPDATE products_historysummary SET turns_known = false")

    summarise(most=1)
    assert noted() == ids("rescue")
    assert summarise() == 1
    assert noted() == ids("meeting", "rescue")
    assert summarise() == 0


def noted() -> list[int]:
    """Return of which products it is noted who turned."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT DISTINCT product FROM products_historyturn ORDER BY product")
        return [product for (product,) in cursor]


def test_who_turned_in_a_month_that_was_dropped_is_forgotten_with_it(committed_db: Database) -> None:
    grace = give(give(make_user(), "meeting"))
    start = timezone.now().replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    later = (start + timedelta(days=32)).replace(day=2)
    with psycopg.connect(committed_db.superuser) as superuser:
        superuser.execute("ALTER TABLE products_accesschange DISABLE TRIGGER USER")
        superuser.execute(
            "UPDATE products_accesschange SET at = %s WHERE id = (SELECT max(id) FROM products_accesschange)", [later]
        )
    sealed()
    question = Question(product=product("meeting"), reader=User(role=Role.SUPPORT), since=start)
    assert count(question) == 0

    assert len(list(drop_before(later.replace(day=1)))) >= 1

    assert AccessChange.objects.count() == 1  # the one that took it from her, who held it before as far as it tells
    for _made in range(2):
        assert held_at(grace, start) == ids("meeting")
        assert count(question) == 1
        sealed()


def test_who_turned_is_told_without_a_look_at_the_rows_of_a_block_between_the_moments(committed_db: Database) -> None:
    grace, since = make_user(), timezone.now()
    give(grace, "meeting")
    between = timezone.now()
    give(make_user(), "meeting")
    until = AccessChange.objects.get(pk=sealed()).at
    asked = {"product": product("meeting"), "reader": User(role=Role.SUPPORT), "what": What.GAINED, "until": until}
    assert (count(Question(since=since, **asked)), count(Question(since=between, **asked))) == (2, 1)

    with psycopg.connect(committed_db.superuser) as superuser:
        superuser.execute("ALTER TABLE products_accesschange DISABLE TRIGGER USER")
        superuser.execute("DELETE FROM products_accesschange")

    assert (count(Question(since=since, **asked)), count(Question(since=between, **asked))) == (2, 0)  # the other cuts the block
