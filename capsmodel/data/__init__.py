"""The data: reads and transforms pictures, and makes the batches of training."""
