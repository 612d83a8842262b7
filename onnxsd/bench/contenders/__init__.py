"""What runs in a child process of the bench: the contenders, and helpers that prepare and compare.

A module here imports the standard library, numpy and, inside functions, what it measures: it may run in an
interpreter that has neither onnxsd's dependencies nor onnxsd itself. `onnxsd_engine` alone needs both: it is
imported by the contender that is onnxsd, inside functions.
"""
