"""Pictures of documents."""

from __future__ import annotations

import io

import pypdfium2
import pytest
from PIL import Image

from flask_dualmedia.variants import jail
from flask_dualmedia.variants.documents import first_page
from flask_dualmedia.variants.failures import LimitExceeded, UndecodableMedia

from .calls import Bytes, Outputs, call


def make_pdf(width: float = 200, height: float = 100, pages: int = 2) -> bytes:
    document = pypdfium2.PdfDocument.new()
    for _ in range(pages):
        document.new_page(width, height)
    target = io.BytesIO()
    document.save(target)
    return target.getvalue()


@pytest.mark.parametrize("image_format", ["webp", "jpeg"])
def test_the_first_page_is_drawn_at_a_width(image_format: str) -> None:
    result, outputs = call(first_page, make_pdf(), width=640, format=image_format)
    assert result == {"width": 640, "height": 320, "format": image_format, "pages": 2}
    with Image.open(io.BytesIO(outputs.of("page"))) as image:
        assert image.size == (640, 320)
        assert (image.format or "").lower() == image_format
        pixel = image.convert("RGB").getpixel((10, 10))
    assert isinstance(pixel, tuple)
    assert min(pixel) > 250


def test_a_page_is_drawn_in_the_jail_too() -> None:
    outputs = Outputs(page=io.BytesIO())
    result, expected = call(first_page, make_pdf(), width=320)
    assert jail.run("first_page", {"width": 320}, Bytes(make_pdf()), outputs) == result
    assert outputs.of("page") == expected.of("page")


@pytest.mark.parametrize("content", [b"", b"%PDF-1.7\n", make_pdf()[:100], b"<html></html>"])
def test_a_damaged_document_has_no_page(content: bytes) -> None:
    with pytest.raises(UndecodableMedia):
        call(first_page, content, width=640)


def test_a_page_that_is_a_strip_is_refused() -> None:
    with pytest.raises(LimitExceeded):
        call(first_page, make_pdf(width=10, height=10_000), width=640)
