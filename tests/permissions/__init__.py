"""Is each rule of the shipped Roles required? A test that it names fails without it.

`rules.py` reads the rules from the tables of permissions, `named.py` names a test for each of them,
`removal.py` takes a rule out of all Roles that are created in a cluster, `session.py` runs tests,
`evidence.py` finds why one failed, and `sharing.py` shares the rules among processes. `python -m
permissions` does this for all rules on real clusters, and writes the results to `docs/soak/`.
"""
