"""Media among the other media of its owner."""
