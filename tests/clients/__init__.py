"""Programs and browsers of other people's make against the app: see the README."""
