"""Operations for people and scripts, and the ``celery dispatch`` commands.

``operations`` reads and returns the values of ``reports``; ``problems`` says what is wrong and what cures it;
``documents`` turns reports into JSON and ``render`` into tables; ``cli`` parses and calls.
"""
