"""The real core, many nodes of it, in virtual time and under random harm.

``draw`` makes a plan of a seed, ``run`` carries it out, ``shrink`` makes one that fails smaller; ``python -m
tests.simulation`` does all three.  Nodes, membership and keeper are the product's own, on its ports in
memory; ``process`` stands for its two threads, ``faulty`` for the network, ``loop`` for time.

The ``witness`` sees each write and each message, and says what must not be:

* an occurrence that is claimed, or sent in one write, before it is due;
* one that is sent twice, unless the store lost what no node knew, a person reset its cursor, or the broker is
  another one and somebody was harmed between publishing and settling;
* one that is dealt with under a definition that was not in force at its due;
* one that is neither fired nor counted as skipped, or counted though its policy does not let it be skipped;
* one that was claimed and whose message was not sent, or given back though it was;
* a cursor that goes back, is removed or begins anew within the grace, or is put back to where it never was;
* a definition that gives way to another while something of it is open, though somebody could have fired that;
* a claim that comes later than the handover after one thing that happened to one node;
* an error out of a turn or a heartbeat, and a loop that turns without end.

When all has been well for six leases (``ending``) every node sees the pool as it is, each entry has one owner
and one standby, nothing is behind, no intent is open, and everything is fired in time.  ``excuses`` says what
is nobody's fault, and no more than the documented guarantees except.
"""
