"""The database backend that settings name."""
