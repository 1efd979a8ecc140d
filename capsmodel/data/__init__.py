"""The data: how pictures are read, transformed, and handed to the training."""
