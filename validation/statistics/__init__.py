"""Statistics with intervals, each with its source."""
