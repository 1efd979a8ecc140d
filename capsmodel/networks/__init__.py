"""The networks: layers, routing, losses, and the memory that they need."""
