"""Names stored before they were composed (NFC) are found again by a sheet that names a product; but for one that is another's.

And but for one that would hold a semicolon, to which the Greek question mark is composed: sheets separate products by it.
"""

from django.db import migrations

PRODUCTS = """
WITH composed AS (SELECT id, name, normalize(name) AS new FROM products_product)
UPDATE products_product p SET name = c.new FROM composed c
WHERE p.id = c.id AND c.new <> c.name AND length(c.new) <= 64 AND c.new !~ ';' AND NOT EXISTS (
    SELECT FROM composed o WHERE o.id <> c.id AND lower(o.new) = lower(c.new) AND (o.new = o.name OR o.id < c.id)
)
"""


class Migration(migrations.Migration):
    dependencies = [("products", "0019_who_only_reads")]

    operations = [migrations.RunSQL(PRODUCTS, migrations.RunSQL.noop)]
