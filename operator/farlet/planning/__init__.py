"""What to do next for one home pod: pure decisions on a snapshot of both sides."""
