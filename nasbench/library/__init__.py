"""WHAT can be inserted: modules and their declarations, plug-in files, the algebra of expressions, plans."""
