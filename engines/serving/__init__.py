"""The HTTP service and its page: ``mimo serve``."""
