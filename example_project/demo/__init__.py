"""Three beats, one worker, one killed beat, one new one, and a count of what really ran; ``python -m demo``.

====================  ============================================================
``app.py``            the example app with a schedule of twelve entries a second
``runs.py``           what the worker writes down of each message, and reading it
``pool.py``           who is live and who owns what, for the screen
``processes.py``      starting and ending servers, beats and the worker, by pid
``verdict.py``        expected against ran: lost, doubled, early, lag
``screen.py``         the picture in the terminal, or plain lines
``__main__.py``       the story, from start to verdict
====================  ============================================================
"""
