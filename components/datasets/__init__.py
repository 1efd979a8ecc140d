"""Datasets of TensorFlow Datasets (TFDS): prepared, described and sliced."""
