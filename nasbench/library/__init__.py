"""WHAT CAN BE INSERTED: modules and their declarations, plug-in files, the algebra of expressions, plans."""
