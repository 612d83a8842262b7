"""Measuring: each contender in a process of its own, in interleaved rounds, into one report."""
