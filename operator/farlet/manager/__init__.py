"""`farlet manager`: runs one farlet for each VirtualNode of its own namespace, and no other object.

Nothing here is required by `farlet run` alone.
"""
