"""WHAT can be inserted: modules and what they declare, plug-in files, the algebra of expressions, plans."""
