"""What `farlet check` verifies beside the address for pods: one module for each concern."""
