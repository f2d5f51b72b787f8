"""The rules: what is due, who fires it, and what a claim says. Imports neither Redis nor Celery."""
