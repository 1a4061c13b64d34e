"""gunicorn's settings where gevent patches its process before the app is loaded."""

from gevent import monkey

monkey.patch_all()
