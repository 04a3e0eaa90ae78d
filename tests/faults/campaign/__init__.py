"""A random campaign: faults of all kinds, in any order and overlapping, while pods come and go.

`schedule` decides from a seed which fault happens when, `kinds` injects them, `workload` creates
and deletes pods and acts as others in both clusters, and `judge` compares what must be true of
every pod with the audit logs and with what containers wrote themselves.
"""
