"""The kinds of schedule that this package adds to Celery's: ``cron``, ``at`` and ``rrule``."""
