"""Composing results: structured report, captures, summary, wording, UIDs."""
