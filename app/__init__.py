"""Processes and I/O: everything that runs in the hospital."""
