"""What commands beside `farlet run` do: `farlet render` and `farlet check`."""
