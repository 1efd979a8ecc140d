"""The datasets of TensorFlow Datasets: preparing, describing and slicing them."""
