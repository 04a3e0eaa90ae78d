"""What to do for one home pod: pure decisions on a snapshot of both sides."""
