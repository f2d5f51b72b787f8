"""A Celery project to start from; ``celery -A proj …`` finds the app here."""

from .celery import app

__all__ = ["app"]
