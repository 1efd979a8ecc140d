"""Sets of images that are made from those of MNIST."""
