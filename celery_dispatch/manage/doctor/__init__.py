"""``celery dispatch doctor``: what is wrong with a pool, or could be, with evidence and cure.

``reader`` takes one ``Snapshot`` and writes nothing; each area's module turns a snapshot into findings and
asks nobody; ``examine`` puts them together; ``render`` shows them.
"""
