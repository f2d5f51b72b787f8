"""Topics, headers and priorities on RabbitMQ: what two real beats fire, seen where each queue is consumed."""

from __future__ import annotations

import runpy
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.drills.process import ROOT, Process, wait_until
from tests.drills.redis_server import Server
from tests.rabbitmq import RabbitMQ

pytestmark = pytest.mark.timeout(120)

APP = """
from celery import Celery
from kombu import Exchange, Queue

from tests.drills.process import die_with_parent

die_with_parent()
q = {queue!r}
news, tenants = Exchange(q + "-news", type="topic"), Exchange(q + "-tenants", type="headers")
app = Celery("proj", broker={broker!r}, set_as_current=False)
app.conf.update(
    beat_scheduler="celery_dispatch:DispatchScheduler",
    dispatch_redis_url={redis!r},
    dispatch_catch_up="all",
    task_default_queue=q,
    task_queues=[
        Queue(q, max_priority=9),
        Queue(q + "-all-news", news, routing_key="news.#"),
        Queue(q + "-all-sport", news, routing_key="*.sport"),
        *(
            Queue(q + "-tenant-" + name, tenants, binding_arguments={{"x-match": "all", "tenant": name}})
            for name in "ab"
        ),
    ],
)
options = {{
    "sport-news": {{"queue": q + "-all-news", "routing_key": "news.sport"}},
    "weather-news": {{"queue": q + "-all-news", "routing_key": "news.weather.today"}},
    "sport-blog": {{"queue": q + "-all-sport", "routing_key": "blog.sport"}},
    **{{name: {{"queue": q + "-tenant-a", "headers": {{"tenant": name}}}} for name in "ab"}},
    **{{f"priority-{{n}}": {{"priority": n}} for n in (0, 5, 9)}},
}}
app.conf.beat_schedule = {{
    name: {{"task": "t", "schedule": 1.0, "options": each}} for name, each in options.items()
}}
"""
EXPECTED = {
    "": {"priority-0", "priority-5", "priority-9"},
    "-all-news": {"sport-news", "weather-news"},
    "-all-sport": {"sport-news", "sport-blog"},
    "-tenant-a": {"a"},
    "-tenant-b": {"b"},
}


@pytest.fixture
def queue(rabbitmq: RabbitMQ) -> Iterator[str]:
    queue = f"q-{uuid4().hex[:12]}"
    yield queue
    for name in EXPECTED:
        rabbitmq.delete(queue + name)


def test_topics_headers_and_priorities_are_seen_where_they_are_consumed(
    server: Server, rabbitmq: RabbitMQ, queue: str, tmp_path: Path
) -> None:
    path = tmp_path / "routed_app.py"
    path.write_text(APP.format(queue=queue, broker=rabbitmq.url, redis=server.url))
    app: Any = runpy.run_path(str(path))["app"]
    with app.connection_for_write() as connection:  # as the workers of these queues do when they start
        for each in app.amqp.queues.values():
            each(connection.default_channel).declare()
    beats = [
        Process(
            name,
            [sys.executable, "-m", "celery", "-A", "routed_app", "beat", "-l", "INFO", "--pidfile="],
            env={"PYTHONPATH": f"{tmp_path}:{ROOT}"},
            log=tmp_path / f"{name}.log",
        )
        for name in ("one", "two")
    ]
    try:
        for beat in beats:
            beat.start()
        wait_until(
            lambda: min(rabbitmq.depth(queue + name) for name in EXPECTED) >= 5,
            60,
            why=lambda: "\n".join(beat.log for beat in beats),
        )
    finally:
        for beat in beats:
            beat.end()
    arrived = {name: rabbitmq.take(queue + name) for name in EXPECTED}
    for name, messages in arrived.items():
        dues = defaultdict(list)
        for message in messages:
            dues[message.headers["dispatch_entry"]].append(message.headers["dispatch_due"])
        assert set(dues) == EXPECTED[name]
        assert all(len(set(each)) == len(each) for each in dues.values())
    sport = [
        {m.headers["id"] for m in arrived[name] if m.headers["dispatch_entry"] == "sport-news"}
        for name in ("-all-news", "-all-sport")
    ]
    assert sport[0] == sport[1], "each reaches both queues"
    priorities = [message.properties["priority"] for message in arrived[""]]
    assert priorities == sorted(priorities, reverse=True), "the urgent ones are consumed first"
    assert {f"priority-{message.properties['priority']}" for message in arrived[""]} == EXPECTED[""]
    assert all(
        message.headers["dispatch_entry"] == f"priority-{message.properties['priority']}"
        for message in arrived[""]
    )
