"""Who was erased holds nothing, for good: whatever statement would give them a product leaves them as they are."""

from django.db import migrations, models

STAYS = """
CREATE FUNCTION products_leave_erased() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RETURN NULL;
END $$;
REVOKE EXECUTE ON FUNCTION products_leave_erased() FROM PUBLIC;
CREATE TRIGGER products_leave_erased BEFORE UPDATE ON products_productaccess FOR EACH ROW
    WHEN (OLD.erased AND NEW.products OPERATOR(pg_catalog.<>) '{}') EXECUTE FUNCTION products_leave_erased();
ALTER TABLE products_productaccess ENABLE ALWAYS TRIGGER products_leave_erased;
"""
GOES = """
DROP TRIGGER products_leave_erased ON products_productaccess;
DROP FUNCTION products_leave_erased();
"""


class Migration(migrations.Migration):
    dependencies = [("products", "0010_evidence_packs")]

    operations = [
        migrations.AddField("productaccess", "erased", models.BooleanField(db_default=False, default=False)),
        migrations.AddConstraint(
            "productaccess",
            models.CheckConstraint(
                condition=models.Q(("erased", False), ("products", []), _connector="OR"), name="who_is_erased_holds_nothing"
            ),
        ),
        migrations.RunSQL(STAYS, GOES),
    ]
