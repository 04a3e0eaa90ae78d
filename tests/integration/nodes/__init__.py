"""The virtual node as home's own controllers, its scheduler and kubectl see it.

On plain clusters, whose node lifecycle controller has little patience: see `conftest.py`.
"""
