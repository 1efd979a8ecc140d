"""What you can choose for how pictures are read. It needs no TensorFlow."""

# Ways to bring a picture to the network's size, see `framing.frame`.
STROKES, WHOLE = 'strokes', 'whole'
