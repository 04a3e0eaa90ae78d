"""Where pods abroad reach the home API server: what is chosen, when it is looked at, and whether
it really is home that answers there.
"""
