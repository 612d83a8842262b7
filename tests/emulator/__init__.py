"""The GPU kernels on a CPU: their own text, compiled by g++ and run thread by thread."""
