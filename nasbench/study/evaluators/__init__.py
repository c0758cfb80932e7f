"""Evaluators turn a request into an evaluation: by training, by calling a user's function, or from a table."""
