"""Test images drawn again as the pictures that people take."""
