"""What farlet tells about itself: logs, metrics, and whether it is alive and ready.

Three rooms, `logs`, `metrics` and `probes`, that know nothing of pods; others hand them numbers
and words. No name of a pod and no token may leave through a metric, nor a token through a log.
"""
