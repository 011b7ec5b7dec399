"""How fast a step is, where its time goes, and what else one could use. Import from the modules."""
