"""Checks of what was exported: bodies for operators whose kernels are not there, runs, comparisons."""
