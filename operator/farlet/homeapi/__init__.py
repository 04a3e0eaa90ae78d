"""The endpoint at which pods in the foreign cluster reach the home API server: how farlet chooses
it, and how it checks that the home API server answers there.
"""
