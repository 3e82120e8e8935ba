"""Which emails there are is answered exactly, page by page, and never by looking through all that were ever sent."""

from datetime import timedelta
from typing import Any

import pytest
from django.db.models import Q
from django.utils import timezone

from notifications import queries
from notifications.models import MailServer, Notification, State
from notifications.queries import Filter
from tests.factories import make_users
from tests.notifications.test_delivery import owe

NOW = timezone.now()
pytestmark = pytest.mark.django_db


def ids(found: Any) -> list[int]:
    return [letter.pk for letter in found]


@pytest.fixture
def letters() -> list[Notification]:
    """Return nine emails, newest first: three each sent, failed and queued; every second one in French."""
    owe(*make_users(9))
    made = list(Notification.objects.order_by("-id"))
    for number, letter in enumerate(made):
        state = (State.SENT, State.FAILED, State.QUEUED)[number // 3]
        letter.state, letter.language, letter.possible_duplicate = state, ("en", "fr")[number % 2], number == 4
        letter.owed_at = NOW - timedelta(hours=number)
        letter.message_id = f"<onboarding.{letter.about}.{letter.user_id}@console.example>"
        letter.save()
    return made


def test_each_filter_finds_what_it_says(letters: list[Notification]) -> None:
    found = {
        Filter(): letters,
        Filter(state="FAILED"): letters[3:6],
        Filter(kind="ONBOARDING", language="fr"): letters[1::2],
        Filter(kind="CHANGE"): [],
        Filter(user=letters[2].user_id): [letters[2]],
        Filter(possible_duplicates=True): [letters[4]],
        Filter(since=NOW - timedelta(hours=2), until=NOW): letters[1:3],
        Filter(message_id=letters[5].message_id): [letters[5]],
        Filter(message_id=letters[5].message_id.strip("<>")): [letters[5]],
        Filter(message_id="<somebody@elsewhere.example>"): [],
        Filter(change=4711): [],
        Filter(state="OPEN"): letters[6:],
        Filter(state="UNSENT", language="fr"): [letters[3], letters[5]],
        Filter(also=Q(kind="ONBOARDING", about=letters[0].about)): letters,
        Filter(also=Q(kind="CHANGE", about=letters[0].about)): [],
    }

    for asked, expected in found.items():
        assert ids(queries.page(asked).letters) == ids(expected), asked


def test_the_pages_follow_each_other(letters: list[Notification]) -> None:
    seen, before = list[int](), None
    for _page in range(3):
        page = queries.page(Filter(), before=before, size=3)
        seen, before = seen + ids(page.letters), page.older

    assert seen == ids(letters)
    assert before is None


def test_what_is_rare_is_looked_for_in_stretches_and_says_how_far(
    letters: list[Notification], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queries, "FIRST_STRETCH", 1)
    monkeypatch.setattr(queries, "LOOKED_AT", 5)

    first = queries.page(Filter(language="fr"), size=10)
    second = queries.page(Filter(language="fr"), size=10, before=first.older)

    assert ids(first.letters) == ids(letters[1:5:2])
    assert first.searched_back_to == letters[4].owed_at
    assert ids(first.letters + second.letters) == ids(letters[1::2])


def test_counts_are_of_states_and_kinds(letters: list[Notification]) -> None:
    found = queries.counts(Filter())

    assert (found.by_state, found.by_kind, found.is_cut) == (
        {"SENT": 3, "FAILED": 3, "QUEUED": 3},
        {"ONBOARDING": 9},
        False,
    )
    assert queries.counts(Filter(state="FAILED", language="fr")).by_state == {"FAILED": 2}


def test_counts_end_somewhere_and_say_so(letters: list[Notification], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queries, "LOOKED_AT", 4)

    found = queries.counts(Filter())

    assert (sum(found.by_state.values()), found.is_cut) == (4, True)


@pytest.mark.parametrize("size", [3, 30])
def test_a_page_and_its_counts_cost_the_same_for_few_and_many(size: int, django_assert_num_queries: Any) -> None:
    owe(*make_users(size))

    with django_assert_num_queries(4):
        queries.page(Filter(), size=2)
        queries.counts(Filter())


def test_how_the_emails_go_is_told(settings: Any, letters: list[Notification]) -> None:
    settings.EMAIL_RATE = 60
    MailServer.objects.create(slowed_at=NOW, slowed_from=60, slowed_to=30, speed=400)

    found = queries.delivery(NOW)

    assert (found.backlog.limit, found.backlog.is_slowed, found.backlog.waiting, found.speed) == (30, True, 3, 400)
    assert found.rest == timedelta(seconds=6)


def test_emails_that_wait_for_the_rate_are_late_once_it_takes_long(settings: Any, letters: list[Notification]) -> None:
    now = NOW + timedelta(seconds=1)
    settings.EMAIL_RATE = 1
    assert (queries.backlog(now).rest, queries.backlog(now).is_slow) == (timedelta(minutes=3), False)

    Notification.objects.update(state=State.DEFERRED)
    MailServer.objects.create(last_words="Welcome")
    found = queries.backlog(now)
    assert (found.is_slow, found.limit, found.last_words) == (False, 1, "")

    owe(*make_users(2))
    assert queries.backlog(now + timedelta(hours=1)).is_slow
    MailServer.objects.update(down_since=NOW)
    assert not queries.backlog(now + timedelta(hours=1)).is_slow
