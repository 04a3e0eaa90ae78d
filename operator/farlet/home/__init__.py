"""Watches home pods: with Kopf in a thread of its own, and a resync for what Kopf does not report."""
