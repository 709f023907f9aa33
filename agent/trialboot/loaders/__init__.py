"""Boot loaders behind one interface of a few verbs."""
