"""Every performance figure that the project states, re-runnable."""
