"""What the commands beside `farlet run` and `farlet manager` do, one module or package each."""
