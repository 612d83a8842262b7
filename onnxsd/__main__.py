"""`python -m onnxsd`: the same program as the `onnxsd` command."""

from onnxsd.cli import main

if __name__ == "__main__":
    main()
