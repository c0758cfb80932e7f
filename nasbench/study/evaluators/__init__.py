"""Evaluators: a request for one plan and seed becomes an evaluation, by training, by asking, or from a table."""
