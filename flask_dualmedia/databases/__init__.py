"""How we speak to both databases."""
