"""The steps of the graph, one a file: plain functions first, the MONAI Deploy operator at the foot."""
