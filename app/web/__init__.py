"""Health, readiness, metrics and version over HTTP, in the gateway's process."""
