"""The library under the four scripts: from annotation files and photos to a checked TFLite model."""
