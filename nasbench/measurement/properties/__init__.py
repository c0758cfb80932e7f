"""The five properties, measured: of a module, of what a plan put into a model, of the stages of a network."""
