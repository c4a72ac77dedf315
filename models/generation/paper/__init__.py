"""The generator as published (BUSGen, arXiv 2501.06869), a configuration to measure against.

What is the same and what differs, item by item: docs/generator-paper.md.
"""
