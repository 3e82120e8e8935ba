"""Italian: the day without a zero before it, a moment without its weekday, as in the other languages."""

DATE_FORMAT = "j F Y"
DATETIME_FORMAT = "j F Y H:i"
