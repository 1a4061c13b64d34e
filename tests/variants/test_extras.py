"""Without the packages that render, an error says which extra brings them."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Iterator

import pytest
from pillow_heif import from_pillow

from flask_dualmedia import MissingExtra
from flask_dualmedia.variants import decoding
from flask_dualmedia.variants.images import render

from .pictures import quadrants, recipe, saved


@pytest.fixture
def without_heif(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A process in which pillow-heif cannot be imported."""
    decoding._readers.cache_clear()
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    yield
    decoding._readers.cache_clear()


def test_without_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    content = saved(quadrants(), "PNG")
    monkeypatch.delitem(sys.modules, "flask_dualmedia.variants.rendering")
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(MissingExtra, match=r"flask-dualmedia\[images\]"):
        render(io.BytesIO(content), [recipe()])


@pytest.mark.usefixtures("without_heif")
def test_without_pillow_heif() -> None:
    render(io.BytesIO(saved(quadrants(), "PNG")), [recipe()])
    target = io.BytesIO()
    from_pillow(quadrants()).save(target)
    with pytest.raises(MissingExtra, match=r"flask-dualmedia\[heif\]"):
        render(target, [recipe()])


def test_the_package_is_imported_without_pillow() -> None:
    """It is imported in a process of its own, in which there is none."""
    program = "import sys; sys.modules['PIL'] = None; import flask_dualmedia"
    subprocess.run([sys.executable, "-c", program], check=True)
