"""The settings of a Django project whose periodic tasks are in its database."""

import os

SECRET_KEY = "not a secret"
INSTALLED_APPS = ["django_celery_beat"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.environ["DATABASE"]}}
USE_TZ = True
TIME_ZONE = "UTC"
