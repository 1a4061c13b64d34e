"""A picture of a document: the first page of a PDF."""

from __future__ import annotations

import io
import typing as t
from collections.abc import Callable, Mapping

import pypdfium2

from .failures import LimitExceeded, UndecodableMedia

_MAX_HEIGHT = 4
"""How many times as high as wide a page is drawn at most."""

_MAX_WIDTH = 4096
_QUALITY = 80


def first_page(
    arguments: Mapping[str, t.Any],
    source: t.Any,
    sinks: Mapping[str, t.Any],
    _report: Callable[[float], None],
) -> dict[str, t.Any]:
    """Write the first page of a PDF to the sink ``page``.

    :param arguments: ``width`` of the picture; ``format``, "webp" or "jpeg".
    :return: ``width``, ``height``, ``format``, and how many ``pages`` the document has.
    """
    image_format = arguments.get("format", "webp")
    try:
        document = pypdfium2.PdfDocument(source)
        with document:
            image = _draw(document, arguments["width"])
            pages = len(document)
    except pypdfium2.PdfiumError as error:
        raise UndecodableMedia(str(error)) from error

    content = io.BytesIO()
    image.save(content, image_format, quality=_QUALITY)
    sinks["page"].write(content.getvalue())
    return {
        "width": image.width,
        "height": image.height,
        "format": image_format,
        "pages": pages,
    }


def _draw(document: pypdfium2.PdfDocument, width: int) -> t.Any:
    if len(document) == 0:
        raise UndecodableMedia("a document without pages")
    page = document[0]
    page_width, page_height = page.get_size()
    if page_width <= 0 or page_height <= 0:
        raise UndecodableMedia("a page without a size")
    if page_height > _MAX_HEIGHT * page_width:
        raise LimitExceeded(f"a page that is over {_MAX_HEIGHT} times as high as wide")
    scale = min(width, _MAX_WIDTH) / page_width
    return page.render(scale=scale).to_pil().convert("RGB")
