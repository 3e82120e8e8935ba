"""One act of an admin on many users (rules B1 to B12)."""

import uuid
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from notifications.models import Notification
from products import actions, previews, queries, running
from products.catalogue import add_product
from products.models import TICKED_MODES, AccessChange, BulkChange, BulkChangeSkip, Mode, Product, ProductAccess, Seat
from products.pauses import pause_of
from products.selection import Selection
from tests.factories import NOW, change, give, held_by, ids, limit, make_group, make_user, make_users, product
from users.models import Role, User
from users.queries import UserFilter

pytestmark = pytest.mark.django_db


@pytest.fixture
def admin() -> User:
    return make_user("Ada Admin", role=Role.ADMIN)


@pytest.fixture
def in_batches(settings) -> None:
    """Let a change of more than two users be a large one, in batches of three."""
    settings.BULK_AT_ONCE, settings.BULK_BATCH_SIZE = 2, 3


def run(made: BulkChange) -> BulkChange:
    """Do what the worker does, until the change is over, and return it as it is then."""
    while actions.advance_bulk_change(change_id=made.pk, now=NOW) is actions.Step.MORE:
        pass
    made.refresh_from_db()
    return made


def owed(user: User) -> set[tuple[str, int]]:
    """Return the emails owed to a user: (kind, id of what it tells of)."""
    return set(Notification.objects.filter(user=user).values_list("kind", "about"))


def counts(made: BulkChange) -> tuple[int, int, int, int]:
    return made.targets, made.changed, made.unchanged, made.skipped


# What it does


def test_replace_gives_exactly_the_ticked_products(admin):
    grace, alan = give(make_user(), "rescue", "central"), make_user()
    change(admin, [grace, alan], "meeting", "central")

    assert held_by(grace) == held_by(alan) == {"meeting", "central"}


def test_no_choice_suspends_the_user(admin):
    grace = give(make_user(), "rescue")
    made = change(admin, [grace])

    assert held_by(grace) == set()
    assert ProductAccess.objects.get(user=grace).suspended
    assert made.suspended == 1


def test_a_choice_brings_a_suspended_user_back(admin):
    made = change(admin, [make_user()], "rescue")

    assert made.restored == 1


def test_add_and_remove_touch_only_the_ticked_products(admin):
    grace = give(make_user(), "rescue", "central")
    change(admin, [grace], "meeting", "central", mode=Mode.ADD)
    assert held_by(grace) == {"rescue", "central", "meeting"}

    change(admin, [grace], "rescue", "webinar", mode=Mode.REMOVE)
    assert held_by(grace) == {"central", "meeting"}


def test_who_already_matches_gets_no_write_no_history_no_email(admin):
    grace = give(make_user(), "rescue")
    told_before = AccessChange.objects.count()
    made = change(admin, [grace], "rescue")

    assert counts(made) == (1, 0, 1, 0)
    assert AccessChange.objects.count() == told_before
    assert owed(grace) == set()


def test_nobody_outside_the_selection_is_touched(admin):
    stranger = give(make_user(), "rescue")
    change(admin, [make_user()], "meeting")

    assert held_by(stranger) == {"rescue"}


def test_everyone_the_filter_finds_is_changed_but_the_unticked(admin):
    sales = make_group("Sales")
    benelux = make_group("Benelux", inside=sales)
    inside = [make_user(groups=[benelux]) for _ in range(3)]
    outside = make_user()
    everyone = Selection(everyone=True, filter=UserFilter(group=(sales.pk,)), ids=(inside[0].pk,))
    made = change(admin, [], "rescue", selection=everyone)

    assert counts(made) == (2, 2, 0, 0)
    assert [held_by(user) for user in (*inside, outside)] == [set(), {"rescue"}, {"rescue"}, set()]


# Emails


def test_everyone_changed_is_owed_one_change_email(admin):
    grace = give(make_user(), "rescue")
    made = change(admin, [grace, give(make_user(), "central")], "central")

    assert list(Notification.objects.values_list("user", "kind", "about")) == [(grace.pk, "CHANGE", made.pk)]


def test_a_silent_change_owes_no_change_email_but_always_the_onboarding_ones(admin):
    grace = make_user()
    change(admin, [grace], "meeting", "openvoice", "rescue", notify=False)

    assert owed(grace) == {("ONBOARDING", product("meeting").pk), ("ONBOARDING", product("openvoice").pk)}


def test_onboarding_is_owed_once_in_a_life(admin):
    grace = make_user()
    for products in (["meeting"], [], ["meeting"], ["meeting", "webinar"]):
        change(admin, [grace], *products, notify=False)

    assert owed(grace) == {("ONBOARDING", product("meeting").pk), ("ONBOARDING", product("webinar").pk)}


def test_who_held_a_product_before_the_console_is_not_welcomed_to_it(admin):
    grace = give(make_user(), "meeting")
    change(admin, [grace])
    change(admin, [grace], "meeting", notify=False)

    assert ("ONBOARDING", product("meeting").pk) not in owed(grace)


# Once, and refusals


def test_the_same_key_is_one_change(admin):
    grace, key = make_user(), uuid.uuid4()
    first = change(admin, [grace], "rescue", key=key)
    second = change(admin, [grace], "rescue", key=key)

    assert first == second
    assert BulkChange.objects.count() == 1
    assert AccessChange.objects.filter(user=grace).count() == 1


def test_the_same_form_posted_again_is_the_same_change_though_its_draft_was_emptied(admin):
    grace, key = make_user(), uuid.uuid4()
    draft = actions.tick_users(owner=admin, user_ids=[grace.pk], ticked=True, now=NOW)
    first = change(admin, [], "rescue", key=key, selection=Selection.of_draft(draft))
    draft = actions.clear_selection(owner=admin, now=NOW)

    assert change(admin, [], "rescue", key=key, selection=Selection.of_draft(draft)) == first


@pytest.mark.parametrize(
    "other", [{"products": ["central"]}, {"reason": "other"}, {"notify": False}, {"mode": Mode.ADD}, {"users": 2}]
)
def test_the_same_key_with_other_content_is_refused(admin, other):
    users, key = [make_user(), make_user()], uuid.uuid4()
    change(admin, users[:1], "rescue", key=key)

    asked = {"products": ["rescue"], "users": 1, **other}
    with pytest.raises(actions.KeyReused):
        change(admin, users[: asked.pop("users")], *asked.pop("products"), key=key, **asked)


def test_two_admins_may_use_the_same_key(admin):
    key, grace = uuid.uuid4(), make_user()

    assert change(admin, [grace], key=key) != change(make_user(role=Role.ADMIN), [grace], key=key)


def test_a_change_for_nobody_is_refused(admin):
    with pytest.raises(actions.NobodySelected):
        change(admin, [])
    assert not BulkChange.objects.exists()


def test_an_unknown_product_is_refused(admin):
    with pytest.raises(actions.UnknownProduct, match="9999"):
        actions.request_bulk_change(
            actor=admin, selection=Selection.of([make_user().pk]), products=[9999], mode=Mode.REPLACE,
            notify=True, key=uuid.uuid4(), reason="", now=NOW,
        )  # fmt: skip


@pytest.mark.parametrize("role", [Role.MEMBER, Role.SUPPORT])
def test_who_may_not_set_products_is_refused(role):
    grace = make_user()
    with pytest.raises(actions.NotAllowed):
        change(make_user(role=role), [grace], "rescue")
    assert held_by(grace) == set()


def test_a_selection_that_grew_since_the_preview_is_refused(admin):
    make_user(role=Role.SUPPORT)
    everyone = Selection(everyone=True, filter=UserFilter(role=(Role.SUPPORT,)))
    make_user(role=Role.SUPPORT)
    with pytest.raises(actions.SelectionChanged) as refused:
        change(admin, [], "rescue", selection=everyone, expected=1)

    assert (refused.value.previewed, refused.value.found) == (1, 2)
    assert not AccessChange.objects.exists()


def test_above_the_threshold_the_number_is_typed(admin, settings):
    settings.BULK_CONFIRM_ABOVE = 1
    users = [make_user(), make_user()]
    for typed in (None, 1):
        with pytest.raises(actions.ConfirmationNeeded) as refused:
            change(admin, users, "rescue", confirmed=typed)
        assert refused.value.number == 2

    assert change(admin, users, "rescue", confirmed=2).changed == 2


# Scope (S3, B12)


def test_a_manager_changes_only_the_groups_they_manage():
    sales = make_group("Sales")
    manager = make_user(role=Role.MANAGER, manages=[sales])
    inside, outside = make_user(groups=[sales]), make_user()
    made = change(manager, [inside, outside], "rescue")

    assert counts(made) == (1, 1, 0, 0)
    assert held_by(outside) == set()


def test_a_manager_without_groups_changes_nobody():
    with pytest.raises(actions.NobodySelected):
        change(make_user(role=Role.MANAGER), [make_user()], "rescue")


def test_who_outranks_a_manager_is_skipped_and_listed():
    sales = make_group("Sales")
    manager = make_user(role=Role.MANAGER, manages=[sales])
    boss, member = make_user(role=Role.ADMIN, groups=[sales]), make_user(groups=[sales])
    made = change(manager, [boss, member], "rescue")

    assert counts(made) == (2, 1, 0, 1)
    assert list(made.skips.values_list("user_id", "reason")) == [(boss.pk, BulkChangeSkip.Reason.OUTRANKS)]


def test_a_product_out_of_reach_is_preserved_by_replace():
    sales = make_group("Sales")
    manager = make_user(role=Role.MANAGER, manages=[sales])
    grace = give(make_user(groups=[sales]), "central", "rescue")
    made = change(manager, [grace])

    assert held_by(grace) == {"central"}
    assert made.suspended == 0


@pytest.mark.parametrize("mode", TICKED_MODES)
def test_a_product_out_of_reach_cannot_be_ticked(mode):
    sales = make_group("Sales")
    manager = make_user(role=Role.MANAGER, manages=[sales])
    with pytest.raises(actions.NotAllowed, match="Central"):
        change(manager, [make_user(groups=[sales])], "central", mode=mode)


def test_a_retired_product_is_kept_or_unticked_never_newly_ticked(admin):
    holder, other = give(make_user(), "joinme"), make_user()
    Product.objects.filter(code="joinme").update(retired_at=NOW)
    change(admin, [holder, other], "joinme", "rescue")
    assert (held_by(holder), held_by(other)) == ({"joinme", "rescue"}, {"rescue"})

    with pytest.raises(actions.RetiredProduct):
        change(admin, [other], "joinme", mode=Mode.ADD)
    change(admin, [holder], "rescue")
    assert held_by(holder) == {"rescue"}


# Batches


def test_a_large_change_is_frozen_and_runs_in_batches(admin, in_batches):
    users = make_users(7)
    made = change(admin, users, "rescue")
    assert (made.state, counts(made)) == (BulkChange.State.RUNNING, (7, 0, 0, 0))
    assert [len(batch.user_ids) for batch in made.batches.order_by("n")] == [3, 3, 1]

    assert actions.advance_bulk_change(change_id=made.pk, now=NOW) is actions.Step.MORE
    made.refresh_from_db()
    assert made.reached == 3

    run(made)
    assert (made.state, counts(made), made.finished_at) == (BulkChange.State.FINISHED, (7, 7, 0, 0), NOW)
    assert all(held_by(user) == {"rescue"} for user in users)


def test_a_large_change_owes_the_same_emails_as_a_small_one(admin, in_batches):
    users = make_users(4)
    made = run(change(admin, users, "meeting"))

    assert all(owed(user) == {("CHANGE", made.pk), ("ONBOARDING", product("meeting").pk)} for user in users)


def test_who_joins_the_filter_after_apply_is_not_reached(admin, in_batches):
    for _ in range(3):
        make_user(role=Role.SUPPORT)
    made = change(admin, [], "rescue", selection=Selection(everyone=True, filter=UserFilter(role=(Role.SUPPORT,))))
    late = make_user(role=Role.SUPPORT)
    run(made)

    assert held_by(late) == set()


def test_who_is_deleted_or_moved_before_their_batch_is_skipped_with_the_cause(in_batches):
    sales = make_group("Sales")
    manager = make_user(role=Role.MANAGER, manages=[sales])
    users = [make_user(groups=[sales]) for _ in range(3)]
    made = change(manager, users, "rescue")
    users[0].memberships.all().delete()
    users[1].delete()
    run(made)

    assert counts(made) == (3, 1, 0, 2)
    assert queries.skipped_by_reason(made) == {"GONE": 1, "OUT_OF_SCOPE": 1}


def test_an_admin_who_loses_the_capability_pauses_the_change(admin, in_batches):
    users = make_users(4)
    made = change(admin, users, "rescue")
    actions.advance_bulk_change(change_id=made.pk, now=NOW)
    User.objects.filter(pk=admin.pk).update(role=Role.MEMBER)
    run(made)

    assert (made.state, made.changed) == (BulkChange.State.PAUSED, 3)
    assert str(pause_of(made)) == "Ada Admin may no longer set products."


def test_an_admin_reduced_to_fewer_products_pauses_the_change(in_batches):
    sales = make_group("Sales")
    admin = make_user(role=Role.ADMIN, manages=[sales])
    users = [give(make_user(groups=[sales]), "central") for _ in range(4)]
    made = change(admin, users, "rescue")
    User.objects.filter(pk=admin.pk).update(role=Role.MANAGER)
    run(made)

    assert made.state == BulkChange.State.PAUSED
    assert str(pause_of(made)) == f"{admin.name} may no longer grant or remove Central."
    assert all(held_by(user) == {"central"} for user in users)


@pytest.mark.parametrize("mode", [Mode.ADD, Mode.REMOVE])
def test_an_admin_reduced_to_fewer_products_goes_on_with_a_change_of_others(in_batches, mode):
    sales = make_group("Sales")
    admin = make_user(role=Role.ADMIN, manages=[sales])
    users = [give(make_user(groups=[sales]), "meeting") for _ in range(4)]
    made = change(admin, users, "meeting", mode=mode)
    User.objects.filter(pk=admin.pk).update(role=Role.MANAGER)

    assert run(made).state == BulkChange.State.FINISHED


@pytest.fixture
def sales(in_batches) -> tuple[User, list[User]]:
    """Give a Manager and the four users of their group, who hold GoTo Meeting."""
    group = make_group("Sales")
    users = [give(make_user(groups=[group]), "meeting") for _ in range(4)]
    return make_user("Max Manager", role=Role.MANAGER, manages=[group]), users


def test_a_new_product_out_of_reach_stops_no_change_of_a_manager(sales):
    manager, users = sales
    made = change(manager, users, "rescue")
    actions.advance_bulk_change(change_id=made.pk, now=NOW)
    notes = add_product(actor=make_user(role=Role.SUPER_ADMIN), name="GoTo Notes", restricted=True)
    give(make_user(), notes.code)  # of no concern to the manager

    assert run(made).state == BulkChange.State.FINISHED
    assert all(held_by(user) == {"rescue"} for user in users)


def test_before_it_would_take_a_product_that_went_out_of_reach_a_change_pauses(sales):
    manager, users = sales
    give(users[3], "webinar")
    made = change(manager, users, "rescue")
    Product.objects.filter(code="webinar").update(restricted=True)
    for _resumed in range(2):
        run(made)
        assert (made.state, made.changed) == (BulkChange.State.PAUSED, 3)
        assert str(pause_of(made)) == "Max Manager may no longer grant or remove GoTo Webinar."
        assert held_by(users[3]) == {"webinar"}
        actions.resume_change(actor=manager, change_id=made.pk)

    give(users[3], "meeting")
    assert run(made).state == BulkChange.State.FINISHED
    assert held_by(users[3]) == {"rescue"}


def test_who_is_skipped_and_holds_a_product_that_went_out_of_reach_pauses_nothing(sales):
    manager, users = sales
    made = change(manager, users, "rescue")
    Product.objects.filter(code="webinar").update(restricted=True)
    give(users[3], "webinar").memberships.all().delete()

    assert (run(made).state, counts(made)) == (BulkChange.State.FINISHED, (4, 3, 0, 1))


def test_a_change_to_a_product_that_goes_out_of_reach_pauses_at_once(sales):
    manager, users = sales
    made = change(manager, users, "webinar")
    Product.objects.filter(code="webinar").update(restricted=True)

    assert (run(made).state, made.changed) == (BulkChange.State.PAUSED, 0)


def test_overlapping_large_changes_run_first_in_first_out(admin, in_batches):
    users = make_users(4)
    first, second = change(admin, users, "rescue"), change(admin, users, "central")

    assert actions.advance_bulk_change(change_id=second.pk, now=NOW) is actions.Step.WAIT
    run(first)
    run(second)
    assert all(held_by(user) == {"central"} for user in users)


def test_large_changes_apart_from_each_other_do_not_wait(admin, in_batches):
    users = make_users(6)
    change(admin, users[:3], "rescue")

    assert run(change(admin, users[3:], "central")).is_over


def test_a_batch_under_lease_is_left_to_its_worker(admin, in_batches):
    made = change(admin, make_users(3), "rescue")
    made.batches.update(lease_until=timezone.now() + timedelta(seconds=20))
    assert actions.advance_bulk_change(change_id=made.pk, now=NOW) is actions.Step.WAIT
    assert queries.stalled() == []

    made.batches.update(lease_until=timezone.now() - timedelta(seconds=1))
    assert queries.stalled() == [made.pk]
    assert run(made).changed == 3


def test_a_change_goes_on_though_the_clock_of_the_database_was_set_back(admin, in_batches):
    made = change(admin, make_users(6), "rescue")
    actions.advance_bulk_change(change_id=made.pk, now=NOW)
    before = timezone.now() + timedelta(hours=1)
    made.batches.filter(state="DONE").update(done_at=before)
    assert queries.stalled() == [made.pk]

    made.batches.filter(state="WAITING").update(lease_until=before)
    assert queries.stalled() == [made.pk]
    assert run(made).changed == 6


def test_a_batch_that_ends_its_worker_at_each_attempt_is_split_until_one_user_is_left_who_does(admin, in_batches):
    users = make_users(4)
    made = change(admin, users, "rescue")
    made.batches.filter(n=0).update(attempts=running.CLAIMS)  # claimed so often, and never heard of again
    assert actions.advance_bulk_change(change_id=made.pk, now=NOW) is actions.Step.MORE
    made.batches.filter(first_user=users[1].pk, state="WAITING").update(attempts=running.CLAIMS)
    run(made)

    assert (made.state, made.changed, made.skipped) == (BulkChange.State.FAILED, 3, 1)
    assert made.skips.get().user_id == users[1].pk
    assert queries.skipped_by_reason(made) == {"FAILED": 1}


def test_a_batch_costs_the_same_for_few_and_many(admin, settings):
    def statements(size: int) -> int:
        settings.BULK_AT_ONCE, settings.BULK_BATCH_SIZE = 0, 1_000
        made = change(admin, [make_user() for _ in range(size)], "meeting", "rescue")
        with CaptureQueriesContext(
            connection,
        ) as captured:
            actions.advance_bulk_change(change_id=made.pk, now=NOW)
        return len(captured)

    assert statements(3) == statements(300)


# Seats (B9)


def test_seats_follow_who_holds_a_product(admin):
    users = [make_user(), make_user()]
    change(admin, users, "rescue", "meeting")
    change(admin, users[:1], "meeting")

    used = dict(Seat.objects.filter(used__gt=0).values_list("product__code", "used"))
    assert used == {"rescue": 1, "meeting": 2}


def test_short_of_seats_nothing_starts_and_the_shortfall_is_told(admin):
    give(make_user(), "rescue")
    limit("rescue", 2)
    users = [make_user(), make_user(), make_user()]
    with pytest.raises(actions.SeatsShort, match="Rescue: 3 seats needed, 1 free, 2 missing"):
        change(admin, users, "rescue", "meeting")

    assert [held_by(user) for user in users] == [set()] * 3
    assert not BulkChange.objects.exists()


def test_who_holds_the_product_already_needs_no_seat(admin):
    users = [give(make_user(), "rescue"), give(make_user(), "rescue"), make_user()]
    limit("rescue", 3)

    assert change(admin, users, "rescue").changed == 1


def test_removing_is_always_allowed(admin):
    users = [give(make_user(), "rescue"), give(make_user(), "rescue")]
    limit("rescue", 2)

    assert change(admin, users, "rescue", mode=Mode.REMOVE).changed == 2


def test_a_large_change_reserves_its_seats_until_they_are_used(admin, in_batches):
    limit("rescue", 5)
    users = make_users(5)
    made = change(admin, users[:4], "rescue")
    assert Seat.objects.values_list("used", "reserved").get(product__code="rescue") == (0, 4)
    with pytest.raises(actions.SeatsShort):
        change(admin, [users[4], make_user()], "rescue")
    with pytest.raises(actions.SeatsShort):
        change(admin, make_users(3), "rescue")

    actions.advance_bulk_change(change_id=made.pk, now=NOW)
    assert Seat.objects.values_list("used", "reserved").get(product__code="rescue") == (3, 1)
    run(made)
    assert Seat.objects.values_list("used", "reserved").get(product__code="rescue") == (4, 0)


def test_reserved_seats_that_were_not_needed_are_given_back(admin, in_batches):
    limit("rescue", 4)
    users = make_users(4)
    made = change(admin, users, "rescue")
    for user in users[:2]:  # meanwhile deleted
        user.delete()
    run(made)

    assert Seat.objects.values_list("used", "reserved").get(product__code="rescue") == (2, 0)


def test_a_seat_lost_meanwhile_skips_the_last_users_with_that_cause(admin, in_batches):
    limit("rescue", 4)
    users = [give(make_user(), "rescue") if n < 2 else make_user() for n in range(4)]
    made = change(admin, users, "rescue", "meeting")  # two seats are needed and reserved
    change(admin, users[:2])  # two who had one lose theirs
    change(admin, [make_user(), make_user()], "rescue")  # and others take those
    run(made)

    assert [sorted(held_by(user)) for user in users] == [["meeting", "rescue"], ["meeting", "rescue"], [], []]
    assert counts(made) == (4, 2, 0, 2)
    assert queries.skipped_by_reason(made) == {"NO_SEAT": 2}
    assert Seat.objects.values_list("used", "reserved").get(product__code="rescue") == (4, 0)


# Preview (B3)


def look(admin: User, users: list[User], *codes: str, mode: str = Mode.REPLACE, notify: bool = True) -> previews.Preview:
    intent = actions.check_intent(actor=admin, products=ids(*codes), mode=mode)
    return previews.preview(
        Selection.of(user.pk for user in users), actor=admin, mode=mode, wanted=intent.wanted, preserved=intent.preserved,
        notify=notify, now=NOW,
    )  # fmt: skip


def test_the_preview_tells_all(admin):
    limit("webinar", 1)
    users = [give(make_user(), "rescue"), give(make_user(), "meeting"), make_user(), give(make_user(), "meeting", "webinar")]
    meeting, webinar, rescue = (product(code).pk for code in ("meeting", "webinar", "rescue"))
    limit("webinar", 2)
    seen = look(admin, users, "meeting", "webinar")

    assert (seen.selected, seen.changed, seen.unchanged, seen.suspending, seen.restoring) == (4, 3, 1, 0, 1)
    assert seen.gains == {meeting: 2, webinar: 3}
    assert seen.losses == {rescue: 1}
    assert seen.holding == {meeting: 2, webinar: 1, rescue: 1}
    assert seen.change_emails == 3
    assert seen.onboarding_emails == {meeting: 2, webinar: 3}
    assert seen.seats == (previews.SeatNeed(product_id=webinar, needed=3, free=1),)
    assert [need.missing for need in seen.short] == [2]


def test_the_preview_of_nothing_ticked_says_who_becomes_suspended(admin):
    seen = look(admin, [give(make_user(), "rescue"), make_user()], notify=False)

    assert (seen.suspending, seen.unchanged, seen.change_emails) == (1, 1, 0)


def test_the_preview_says_who_keeps_what_the_admin_may_not_take():
    sales = make_group("Sales")
    manager = make_user(role=Role.MANAGER, manages=[sales])
    users = [give(make_user(groups=[sales]), "central", "rescue"), make_user(role=Role.ADMIN, groups=[sales])]
    seen = look(manager, users)

    assert (seen.selected, seen.outranking, seen.kept, seen.suspending) == (2, 1, 1, 0)


def test_the_preview_costs_the_same_for_few_and_many(admin):
    def statements(size: int) -> int:
        users = [make_user() for _ in range(size)]
        with CaptureQueriesContext(connection) as captured:
            look(admin, users, "meeting")
        return len(captured)

    assert statements(3) == statements(300)
