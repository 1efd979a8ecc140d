"""Removes what no kept run of the pipeline needs."""
