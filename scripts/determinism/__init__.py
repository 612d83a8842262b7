"""Does each operator of a graph give the same bits every time? One node at a time."""
