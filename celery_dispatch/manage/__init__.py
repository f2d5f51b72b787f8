"""Operations for people and scripts, and the ``celery dispatch`` commands.

``operations`` reads and returns the values of ``reports``; ``problems`` says what is wrong and what cures it;
``controls`` and ``resets`` change a pool and its cursors; ``doctor`` examines everything at once.
``documents`` turns reports into JSON and ``render`` into tables; ``cli`` and its ``cli_*`` parse and call.
"""
