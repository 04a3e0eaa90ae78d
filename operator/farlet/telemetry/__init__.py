"""Logs, metrics and probes of farlet.

`metric_catalogue` describes every metric and `metrics` counts it; `pod_counts` and `loop_lag`
supply values. Metrics never contain the name of a pod or a token, logs never contain a token.
"""
