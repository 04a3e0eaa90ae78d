"""What carries out the actions of `plan`, one request each, and puts the answers into the store."""
