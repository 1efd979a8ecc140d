"""Makes new sets of images from transformed examples, on Beam."""
