"""What you see of a training: TensorBoard and the lines on the terminal."""
