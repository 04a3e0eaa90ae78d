"""Connections to API servers below `clusters`: with what farlet logs in, how a request travels,
what an answer means, and when a write may still be sent.
"""
