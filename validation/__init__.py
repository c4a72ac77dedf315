"""Judging what the models predict: figures with intervals from prediction files."""
