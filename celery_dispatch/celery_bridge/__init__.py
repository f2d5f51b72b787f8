"""What touches Celery: its schedules, its configuration and its way of making messages."""
