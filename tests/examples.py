"""How many examples Hypothesis tries: few in each run, other ones each time; EXAMPLES=20 for twenty times as many."""

import os

from hypothesis import HealthCheck, settings


def tried(number: int) -> settings:
    """Return the settings of a test that tries so many examples, each in the transaction of the test."""
    times = int(os.environ.get("EXAMPLES") or 1)
    return settings(max_examples=number * times, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
