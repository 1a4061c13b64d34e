"""tus clients of browsers and Node against gunicorn: run by hand, never part of the tests."""
