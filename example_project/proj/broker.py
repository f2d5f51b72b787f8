"""Which broker, and what depends on it.

Without a word everything is on one Redis.  With ``CELERY_BROKER_URL=sentinel://…`` that is the one which the
Sentinels name.  With ``amqp://…`` the messages go through RabbitMQ, while the pool of the beats and the
results stay on a Redis: ``DISPATCH_REDIS_URL``.
"""

from __future__ import annotations

import os
from typing import Any

from kombu import Queue

__all__ = ["BROKER_URL", "NORMAL", "ON_RABBITMQ", "REDIS_URL", "SETTINGS", "URGENT", "WHENEVER"]

_LOCAL_REDIS = "redis://127.0.0.1:6379/0"

BROKER_URL = os.environ.get("CELERY_BROKER_URL", _LOCAL_REDIS)
ON_RABBITMQ = BROKER_URL.startswith(("amqp", "pyamqp"))
REDIS_URL = os.environ.get("DISPATCH_REDIS_URL", _LOCAL_REDIS) if ON_RABBITMQ else BROKER_URL

# On Redis a *small* number is urgent, on RabbitMQ a large one.
URGENT, NORMAL, WHENEVER = (9, 5, 0) if ON_RABBITMQ else (0, 3, 9)

# Two queues, each with workers of its own, so that neither can starve the other.
_QUEUES = ("default", "reports")

_ON_REDIS: dict[str, Any] = {
    "task_queues": [Queue(name) for name in _QUEUES],
    # Each step is a list of its own (`default`, `default\x06\x163`, …), and a worker asks for them in this
    # order; a priority in between takes the step below it.
    # With "priority", a worker of several queues empties them in the order that -Q names them; the default,
    # "round_robin", takes turns.  Steps come before queues either way.
    "broker_transport_options": {
        "priority_steps": [0, 3, 6, 9],
        "queue_order_strategy": "priority",
        # A task that was reserved but not acknowledged for so long is given to another worker.
        "visibility_timeout": 3600,
    },
}

_ON_RABBITMQ: dict[str, Any] = {
    # The beats find each other here; where the broker is a Redis, it is that one and need not be said.
    "dispatch_redis_url": REDIS_URL,
    # Without x-max-priority RabbitMQ ignores priorities.  It cannot be changed on a queue that exists.
    "task_queues": [Queue(name, max_priority=URGENT) for name in _QUEUES],
    # What tasks send themselves is confirmed too; beats wait for confirmations whatever is said here.
    "broker_transport_options": {"confirm_publish": True},
}

SETTINGS = _ON_RABBITMQ if ON_RABBITMQ else _ON_REDIS

# Sentinels are told the name of the master, for the messages and for the results.  The pool takes it over.
if BROKER_URL.startswith("sentinel:"):
    _MASTER = {"master_name": os.environ.get("REDIS_MASTER_NAME", "mymaster")}
    SETTINGS["broker_transport_options"] |= _MASTER
    SETTINGS["result_backend_transport_options"] = _MASTER
