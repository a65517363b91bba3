"""What runs an artifact: one protocol, a file for each runtime."""
