"""Work that is done while Redis carries out a script.

What if something goes wrong in between?  Where the script cannot be sent, the work is not begun.  Where the
answer does not come, or the work raises, the connection is closed with the answer unread: nobody can take it
for that of another command.  The outcome is then unknown, as with any command.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import redis
from redis.exceptions import NoScriptError, ResponseError

__all__ = ["run_script"]


def run_script(
    script: Any, *, keys: Sequence[str], args: Sequence[Any], meanwhile: Callable[[], None] | None
) -> Any:
    """What a registered script answers; ``meanwhile`` is called once, after it was sent."""
    if meanwhile is None:
        return script(keys=keys, args=args)
    with script.registered_client.client() as client:  # a connection for this alone
        try:
            return _sent_and_read(client, ("EVALSHA", script.sha, len(keys), *keys, *args), meanwhile)
        except NoScriptError:
            return script(keys=keys, args=args, client=client)


def _sent_and_read(client: redis.Redis, command: Sequence[Any], meanwhile: Callable[[], None]) -> Any:
    connection: Any = client.connection
    try:
        connection.send_command(*command, check_health=False)
        meanwhile()
        return connection.read_response()
    except ResponseError:  # it was the answer
        raise
    except BaseException:
        connection.disconnect()
        raise
