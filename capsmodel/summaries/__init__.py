"""What a person sees of a training: TensorBoard and the lines on the terminal."""
