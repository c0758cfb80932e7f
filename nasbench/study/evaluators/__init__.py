"""Evaluators turn a request into an evaluation: by training a model, by calling a user's function, or with a table."""
