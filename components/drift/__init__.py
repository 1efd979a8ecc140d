"""Drift: are the pictures that a model is asked about like those that it was trained on?"""
