"""Everything that speaks to an API server: resources and verbs, connections and credentials,
watches, raw streams, and the guard of writes.
"""
