"""Names stored before they were composed (NFC) are found again by who types them, and by a sheet that names a group.

A group whose name another one has then stays as it is: which people belong to which, nobody can tell but the organisation.
So does one whose name would no longer fit in a path: the Greek question mark is composed to a semicolon.
"""

from django.db import migrations

PEOPLE = """
UPDATE users_user SET first_name = normalize(first_name), last_name = normalize(last_name)
WHERE first_name || last_name IS NOT NORMALIZED
    AND greatest(length(normalize(first_name)), length(normalize(last_name))) <= 64
"""
GROUPS = """
WITH composed AS (SELECT id, name, normalize(name) AS new FROM users_usergroup)
UPDATE users_usergroup g SET name = c.new FROM composed c
WHERE g.id = c.id AND c.new <> c.name AND length(c.new) <= 120 AND c.new !~ '[/;]' AND NOT EXISTS (
    SELECT FROM composed o WHERE o.id <> c.id AND lower(o.new) = lower(c.new) AND (o.new = o.name OR o.id < c.id)
)
"""


class Migration(migrations.Migration):
    dependencies = [("users", "0013_who_only_reads")]

    operations = [migrations.RunSQL([PEOPLE, GROUPS], migrations.RunSQL.noop)]
