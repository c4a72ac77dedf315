"""Readers of the public data sets in their published layout. No torch."""
