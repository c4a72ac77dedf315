"""The node: receive, keep, analyse, deliver."""
