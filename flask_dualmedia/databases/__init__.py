"""How both databases are spoken to."""
