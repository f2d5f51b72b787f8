"""Many ``celery beat`` processes, one schedule."""
