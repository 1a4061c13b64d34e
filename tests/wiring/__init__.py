"""Settings, and apps of other people."""
