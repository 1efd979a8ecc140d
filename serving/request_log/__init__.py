"""A sample of requests and their answers, kept in files."""
