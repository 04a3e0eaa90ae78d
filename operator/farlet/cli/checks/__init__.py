"""What `farlet check` verifies in addition to the address for pods: one module for each concern."""
