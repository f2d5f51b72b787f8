"""The ports of the pool and the ledger on Redis.

``keys`` names what is stored, ``lua`` holds one script per atomic operation, ``scripts`` gives each a typed
function, and ``pool``, ``ledger`` and ``listener`` implement the ports with them.
"""
