"""Media among the media of its owner."""
