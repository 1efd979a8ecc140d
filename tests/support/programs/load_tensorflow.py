"""Loads TensorFlow as every process of this project does, and says something afterwards."""

import os

import start_tensorflow

start_tensorflow.load()
os.write(2, b'I0000 after\n')
