"""Watches home pods: Kopf in a thread of its own, and a resync for what Kopf does not report."""
