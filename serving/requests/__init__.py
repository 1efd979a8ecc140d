"""Requests: what they ask of a model, what they cost, and when they run."""
