"""Tools that aim faults, and one that judges what came of them."""
