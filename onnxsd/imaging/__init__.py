"""The image's way out: pixels to pictures, their text, their names, their files."""
