"""The preview of an undo says what the undo then does."""

import pytest
from django.utils import timezone

from products.models import Product, ProductAccess
from products.queries import skipped_by_reason
from products.undoing import undo_preview
from tests.factories import change, give, limit, make_group, make_user, product, undo
from users.models import Role

NOW = timezone.now()


@pytest.fixture
def admin(db):
    return make_user(role=Role.ADMIN)


def undone(actor, made):
    """Undo the change and return what was previewed, and what then was done."""
    foreseen = undo_preview(made, actor=actor, notify=True)
    done = undo(actor, made, notify=True)
    done.refresh_from_db()
    return foreseen, done


def agree(foreseen, done):
    counted = (foreseen.selected, foreseen.changed, foreseen.unchanged, foreseen.suspending, foreseen.restoring)
    assert counted == (done.targets, done.changed, done.unchanged, done.suspended, done.restored)
    assert foreseen.outranking + sum(foreseen.skipped.values()) == done.skipped
    moved = {move.product_id: (move.gained, move.lost) for move in done.moves.all()}
    assert moved == {
        each: (foreseen.gains.get(each, 0), foreseen.losses.get(each, 0))
        for each in foreseen.gains.keys() | foreseen.losses.keys()
    }


def test_who_changed_again_since_and_who_would_get_a_retired_product_are_foreseen(admin):
    users = [give(make_user(), "rescue") for _ in range(3)] + [make_user(), give(make_user(), "webinar")]
    made = change(admin, users, "central")
    give(users[0], "meeting")
    change(admin, [users[1]], "rescue")
    Product.objects.filter(code="webinar").update(retired_at=NOW)

    foreseen, done = undone(admin, made)
    agree(foreseen, done)
    assert (foreseen.changed, foreseen.unchanged, foreseen.skipped) == (2, 1, {"CHANGED_SINCE": 1, "RETIRED": 1})
    assert foreseen.gains == {product("rescue").pk: 1}
    assert foreseen.suspending == 1


def test_who_was_erased_since_is_left_alone_and_takes_no_seat(admin):
    suspended, kept = (give(make_user(), "rescue") for _ in range(2))
    made = change(admin, [suspended, kept])
    ProductAccess.objects.filter(user=suspended).update(erased=True)
    limit("rescue", 1)

    foreseen, done = undone(admin, made)
    agree(foreseen, done)
    assert (foreseen.changed, foreseen.skipped, foreseen.short) == (1, {"ERASED": 1}, [])
    assert skipped_by_reason(done) == {"ERASED": 1}


def test_a_manager_foresees_only_their_own_people_and_no_restricted_product(admin):
    group = make_group("Sales")
    manager = make_user(role=Role.MANAGER)
    manager.managed_groups.add(group)
    mine, other = give(make_user(groups=[group]), "rescue"), make_user()
    made = change(manager, [mine], "meeting")
    assert undone(manager, made)[0].selected == 1
    Product.objects.filter(code="rescue").update(restricted=True)
    again = change(admin, [mine, other], "meeting")
    assert undo_preview(again, actor=manager, notify=False).skipped == {"NOT_ALLOWED": 1}


def test_seats_that_come_back_are_foreseen(admin):
    grace = give(make_user(), "rescue")
    made = change(admin, [grace], "central")
    limit("rescue", 0)
    [need] = undo_preview(made, actor=admin, notify=False).short
    assert (need.needed, need.missing) == (1, 1)
