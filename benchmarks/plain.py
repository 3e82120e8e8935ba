"""A bulk change as one would write it with Django, into plain copies of the tables: no triggers, nothing but the ORM.

The copies hold the same earlier rows as the console's own tables, and get the same outputs.
"""

from collections.abc import Iterable, Sequence

import psycopg
from django.contrib.postgres.fields import ArrayField
from django.db import models, transaction
from django.utils import timezone

from benchmarks.copies import make_copies
from notifications.emails import KINDS
from products.models import Product
from tests.database import Database

BATCH = 2_000
COPIES = {
    "plain_access": "products_productaccess",
    "plain_history": "products_accesschange",
    "plain_email": "notifications_notification",
}
FILL = """
INSERT INTO plain_access (user_id, products, ever) SELECT user_id, products, ever FROM products_productaccess ORDER BY user_id;
INSERT INTO plain_history SELECT * FROM products_accesschange ORDER BY id
"""


class PlainAccess(models.Model):
    """What a user holds, and ever held."""

    user_id = models.IntegerField(primary_key=True)
    products = ArrayField(models.IntegerField())
    ever = ArrayField(models.IntegerField())

    objects: "models.Manager[PlainAccess]" = models.Manager()

    class Meta:
        app_label, managed, db_table = "benchmarks", False, "plain_access"


class PlainHistory(models.Model):
    """What a user gained and lost, when, by whom."""

    id = models.BigAutoField(primary_key=True)
    at = models.DateTimeField()
    user_id = models.IntegerField()
    change_id = models.BigIntegerField()
    actor_id = models.IntegerField()
    source = models.CharField(max_length=16)
    db_role = models.TextField()
    before = ArrayField(models.IntegerField())
    after = ArrayField(models.IntegerField())
    first = ArrayField(models.IntegerField())

    objects: "models.Manager[PlainHistory]" = models.Manager()

    class Meta:
        app_label, managed, db_table = "benchmarks", False, "plain_history"


class PlainEmail(models.Model):
    """An email owed; what is not named here has a default in the table."""

    id = models.BigAutoField(primary_key=True)
    user_id = models.IntegerField()
    kind = models.CharField(max_length=16)
    about = models.BigIntegerField()
    lane = models.PositiveSmallIntegerField()

    objects: "models.Manager[PlainEmail]" = models.Manager()

    class Meta:
        app_label, managed, db_table = "benchmarks", False, "plain_email"


class PlainChange:
    """One change of some users to the same products, in one transaction, made in either of two ways."""

    def __init__(self, actor_id: int, wanted: Iterable[int]) -> None:
        self.wanted, self.actor_id, self.number = sorted(wanted), actor_id, 0
        self.welcoming = set(Product.objects.filter(onboarding=True).values_list("id", flat=True))

    def one_by_one(self, user_ids: Sequence[int]) -> None:
        """Get, set and save each user's products; create what is owed."""
        with transaction.atomic():
            for user_id in user_ids:
                access = PlainAccess.objects.get(pk=user_id)
                if told := self._set(access):
                    access.save()
                    told.save()
                    for email in self._emails(told):
                        email.save()

    def in_bulk(self, user_ids: Sequence[int]) -> None:
        """Do so for 2,000 users at a time, by bulk_update and bulk_create."""
        with transaction.atomic():
            for start in range(0, len(user_ids), BATCH):
                accesses = PlainAccess.objects.filter(pk__in=user_ids[start : start + BATCH]).order_by("pk")
                changed = [(access, told) for access in accesses if (told := self._set(access))]
                PlainAccess.objects.bulk_update([access for access, _told in changed], ["products", "ever"])
                PlainHistory.objects.bulk_create([told for _access, told in changed])
                PlainEmail.objects.bulk_create([email for _access, told in changed for email in self._emails(told)])

    def _set(self, access: PlainAccess) -> PlainHistory | None:
        """Set the products of one row and return what the history has to tell, None when it is as wanted already."""
        before, ever = access.products, access.ever
        if before == self.wanted:
            return None
        access.products, access.ever = self.wanted, sorted({*ever, *self.wanted})
        return PlainHistory(
            at=timezone.now(),
            user_id=access.user_id,
            change_id=self.number,
            actor_id=self.actor_id,
            source="CONSOLE",
            db_role="console",
            before=before,
            after=self.wanted,
            first=sorted(set(self.wanted) - set(ever)),
        )

    def _emails(self, told: PlainHistory) -> list[PlainEmail]:
        owed = [("CHANGE", told.change_id), *(("ONBOARDING", product) for product in self.welcoming.intersection(told.first))]
        return [PlainEmail(user_id=told.user_id, kind=kind, about=about, lane=KINDS[kind].lane) for kind, about in owed]


def make_plain_tables(database: Database) -> None:
    """Make the plain copies of the three tables, owned as the console's own are."""
    with psycopg.connect(database.owner, autocommit=True) as owner:
        make_copies(owner, COPIES)
        owner.execute(FILL)
