"""What admins are told by email: the end of a bulk change that ran in the background, its pause, and seats that run low."""

from datetime import UTC, date, datetime
from typing import Any

import pytest
from django.utils import timezone
from django.utils.formats import date_format

from notifications.models import MailIdentity, Notification
from products.models import BulkChange, Seat, SeatWarning
from products.news import COURSE_KINDS
from products.seats import set_seats, warn_of_low_seats
from tests.factories import NOW, change, limit, make_group, make_holders, make_user, make_users, product, run
from tests.mail import ScriptedServer
from tests.notifications.test_delivery import deliver
from users.models import ERASED_AT, Role, User

pytestmark = pytest.mark.django_db


def told(user: User) -> list[tuple[str, int]]:
    """Return what a user is told of."""
    return list(Notification.objects.filter(user=user).order_by("id").values_list("kind", "about"))


@pytest.fixture
def in_background(settings: Any) -> None:
    settings.BULK_AT_ONCE, settings.BULK_BATCH_SIZE = 2, 2


@pytest.mark.usefixtures("in_background")
class TestCourse:
    def test_who_asked_is_told_when_a_change_in_the_background_has_finished(self, smtp_script: ScriptedServer) -> None:
        ada = make_user("Ada Admin", role=Role.ADMIN)

        made = run(change(ada, make_users(5), "rescue", notify=False))
        deliver()

        assert told(ada) == [("FINISHED", made.pk)]
        [received] = smtp_script.messages
        assert received.message["Subject"] == f"Your change #{made.pk} has finished"
        assert "5 users were changed.\n\nWhat users gained and lost:\n  * Rescue: +5\n" in received.text
        assert ">Rescue: +5</td>" in received.html
        assert f"/changes/{made.pk}/" in received.text
        assert f'/changes/{made.pk}/"' in received.html

    def test_a_change_that_was_done_at_once_is_not_told_of(self) -> None:
        ada = make_user(role=Role.ADMIN)

        change(ada, make_users(2), "rescue", notify=False)

        assert told(ada) == []

    def test_who_asked_is_told_why_it_paused(self, smtp_script: ScriptedServer) -> None:
        ada = make_user("Ada Admin", role=Role.ADMIN)
        made = change(ada, make_users(5), "rescue", notify=False)
        User.objects.filter(pk=ada.pk).update(role=Role.MEMBER)

        run(made)
        deliver()

        assert told(ada) == [("PAUSED", made.pk)]
        [received] = smtp_script.messages
        assert "Why it paused: Ada Admin may no longer set products." in received.text
        assert "5 users still wait." in received.text

    def test_a_change_that_finished_with_errors_says_so(self, smtp_script: ScriptedServer) -> None:
        sales = make_group()
        mary = make_user(role=Role.MANAGER, manages=[sales])
        users = [make_user(role=role, groups=[sales]) for role in (*[Role.MEMBER] * 3, Role.ADMIN, Role.MEMBER)]
        made = change(mary, users, "rescue", notify=False)
        made.batches.filter(size=1).update(state="FAILED")  # as the worker leaves a user whom the database refuses
        BulkChange.objects.filter(pk=made.pk).update(skipped=1)

        run(made)
        deliver()

        assert told(mary) == [("FAILED", made.pk)]
        [received] = smtp_script.messages
        assert received.message["Subject"] == f"Your change #{made.pk} has finished with errors"
        assert "3 users were changed.\n1 user was left out.\n1 user could not be changed.\n\n" in received.text

    def test_the_day_on_which_it_was_started_is_that_of_who_asked(self, smtp_script: ScriptedServer) -> None:
        ada = make_user(role=Role.ADMIN, time_zone="America/Los_Angeles")

        run(change(ada, make_users(5), "rescue", notify=False, now=datetime(2026, 11, 22, 2, 0, tzinfo=UTC)))
        deliver()

        [received] = smtp_script.messages
        assert f"that you started on {date_format(date(2026, 11, 21), 'DATE_FORMAT')} has" in received.text.replace("\n", " ")

    def test_an_import_is_not_told_of(self) -> None:
        ada = make_user(role=Role.ADMIN)

        run(change(ada, make_users(5), "rescue", notify=False, source="IMPORT"))

        assert told(ada) == []


class TestSeats:
    def test_whoever_may_set_seats_is_told_once_that_few_are_left(self, smtp_script: ScriptedServer) -> None:
        ada, sue = make_user(role=Role.ADMIN), make_user(role=Role.SUPER_ADMIN)
        make_user(role=Role.MANAGER)
        make_holders(9, "rescue")
        limit("rescue", 10)

        assert [warn_of_low_seats(now=NOW) for _time in range(2)] == [1, 0]
        deliver()

        [warning] = SeatWarning.objects.all()
        assert (told(ada), told(sue)) == ([("SEATS", warning.pk)], [("SEATS", warning.pk)])
        assert len(smtp_script.messages) == 2
        assert smtp_script.messages[0].message["Subject"] == "Few seats of Rescue are left"
        assert "Free seats: 1 of 10" in smtp_script.messages[0].text

    @pytest.mark.parametrize("names_actor", [True, False])
    def test_whose_change_took_the_seats_is_said(self, smtp_script: ScriptedServer, names_actor: bool) -> None:
        MailIdentity.objects.create(names_actor=names_actor)
        ada = make_user("Ada Admin", role=Role.ADMIN)
        limit("rescue", 10)
        made = change(ada, make_users(9), "rescue", notify=False)
        change(ada, make_users(1), "meeting", notify=False)

        warn_of_low_seats(now=NOW)
        deliver()

        [received] = [m for m in smtp_script.messages if m.message["Subject"] == "Few seats of Rescue are left"]
        assert f"Last change that took seats: #{made.pk}{', by Ada Admin' if names_actor else ''}\n" in received.text
        assert f"/changes/{made.pk}/" in received.text
        assert f'/changes/{made.pk}/"' in received.html

    def test_who_was_erased_since_is_not_named(self, smtp_script: ScriptedServer) -> None:
        MailIdentity.objects.create(names_actor=True)
        ada = make_user("Ada Admin", role=Role.ADMIN)
        make_user(role=Role.ADMIN)
        limit("rescue", 10)
        made = change(ada, make_users(9), "rescue", notify=False)
        User.objects.filter(pk=ada.pk).update(email=f"{ada.pk}{ERASED_AT}")

        warn_of_low_seats(now=NOW)
        deliver()

        [received] = smtp_script.messages
        assert f"Last change that took seats: #{made.pk}\n" in received.text

    def test_no_change_is_named_when_the_number_of_seats_was_set_since(self, smtp_script: ScriptedServer) -> None:
        ada, now = make_user(role=Role.ADMIN), timezone.now()
        change(ada, make_users(9), "rescue", notify=False, now=now)
        set_seats(actor=ada, product_id=product("rescue").pk, seats=10)

        warn_of_low_seats(now=timezone.now())
        deliver()

        assert "/changes/" not in smtp_script.messages[0].text

    def test_once_more_only_after_there_were_enough(self) -> None:
        make_user(role=Role.ADMIN)
        make_holders(9, "rescue")
        for seats, expected in ((10, 1), (10, 0), (20, 0), (10, 1), (None, 0), (9, 1)):
            limit("rescue", seats)
            assert warn_of_low_seats(now=NOW) == expected

    def test_without_a_limit_or_with_enough_nobody_is_told(self, settings: Any) -> None:
        make_user(role=Role.ADMIN)
        make_holders(8, "rescue")
        limit("rescue", 10)

        assert warn_of_low_seats(now=NOW) == 0
        settings.SEATS_LOW_PERCENT = 20
        assert warn_of_low_seats(now=NOW) == 1

    def test_what_is_reserved_is_not_free(self) -> None:
        make_user(role=Role.ADMIN)
        Seat.objects.filter(product=product("rescue")).update(seats=10, reserved=9)

        assert warn_of_low_seats(now=NOW) == 1


def test_a_sample_shows_the_last_change() -> None:
    ada = make_user(role=Role.ADMIN)
    made = change(ada, make_users(2), "rescue")

    assert {getattr(kind.sample(ada, "", NOW), "number", None) for kind in COURSE_KINDS} == {made.pk}
