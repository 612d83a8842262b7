"""The parts of refresh_matrix.py: the index, wheels read by range, their binaries, and the rows they make."""
