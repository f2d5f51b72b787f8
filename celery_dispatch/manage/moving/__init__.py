"""Moving in from other schedulers: a reader for each of their stores, and from a send time to a due.

A reader yields ``Found`` values and writes nothing; ``importing`` puts them into the pool.
"""
