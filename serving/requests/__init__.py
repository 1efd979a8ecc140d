"""Requests: reading them, estimating their cost, merging them, and writing answers."""
