"""WHAT IS RECORDED: the folder of a run, its journal, settings and schema, and the models that a run describes."""
