"""The exported folder: its manifest, its files, and reading weights back from it."""
