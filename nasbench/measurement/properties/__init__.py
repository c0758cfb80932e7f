"""Measure the five properties of a module, of the modules that a plan put into a model, and of a network's stages."""
