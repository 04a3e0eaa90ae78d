"""Desired objects, computed and never fetched: one pure file per kind."""
