"""Tests of the steps of the graph."""

import warnings

# Imported once here, where what holoscan says of the stack size is no error as it would be inside a test.
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import monai.deploy.core  # noqa: F401
