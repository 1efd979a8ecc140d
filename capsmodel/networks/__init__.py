"""The networks: layers, routing, losses, and how much memory they need."""
