"""The places where records live together with their bytes."""
