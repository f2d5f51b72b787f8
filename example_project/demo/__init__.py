"""Three beats, one worker; one beat is killed, one joins, entries are created, changed and paused meanwhile.

``python -m demo`` ends with a count of what really ran.

====================  ============================================================
``app.py``            the example app with a schedule of twelve entries a second
``runs.py``           what the worker writes down of each message, and reading it
``live.py``           the entries that are created, changed and paused while it runs
``pool.py``           who is live and who owns what, for the screen
``processes.py``      starting and ending servers, beats and the worker, by pid
``verdict.py``        expected against ran: lost, doubled, early, lag
``screen.py``         the picture in the terminal, or plain lines
``__main__.py``       the story, from start to verdict
====================  ============================================================
"""
