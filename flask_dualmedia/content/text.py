"""Tell what text is: a page, a picture in SVG, XML, or a format that is written in letters.

Text that begins with the letters of some binary format's signature is text all the same: a CSV with
the column ``BMW`` is no bitmap.
"""

from __future__ import annotations

import re

WINDOW = 4096
"""Bytes that are looked at to tell text from anything else."""

# Control characters that no text has, the "binary data bytes" of
# https://mimesniff.spec.whatwg.org/.
_BINARY = bytes({*range(0x20)} - {*b"\t\n\x0c\r\x1b"})
_NOT_BINARY = bytes(set(range(0x100)) - set(_BINARY))

_MARKS = (
    (b"\xef\xbb\xbf", "utf-8"),
    (b"\xff\xfe\0\0", "utf-32-le"),
    (b"\0\0\xfe\xff", "utf-32-be"),
    (b"\xff\xfe", "utf-16-le"),
    (b"\xfe\xff", "utf-16-be"),
)
"""Byte order marks."""

_UNMARKED = ((b"<\0", "utf-16-le"), (b"\0<", "utf-16-be"))
"""How markup in UTF-16 begins without one."""

# What may stand before the root element, piece by piece.
_PROLOG = re.compile(
    rb"\s+|<\?.*?\?>|<!--.*?-->|<!doctype[^>\[]*(?:\[.*?\]\s*)?>",
    re.DOTALL | re.IGNORECASE,
)
_ROOT = re.compile(rb"<(?:[\w.-]+:)?([\w.-]+)(?=[\s/>])")
_DOCTYPE = re.compile(rb"<!doctype\s+html(?=[\s>])", re.IGNORECASE)
_DECLARATION = re.compile(rb"<\?xml\s")

# The elements that a page may begin with and nothing else does. Markdown begins with others: <p>,
# <div>, <img>.
_PAGE_ROOTS = {
    b"html",
    b"head",
    b"body",
    b"script",
    b"iframe",
    b"title",
    b"meta",
    b"link",
    b"base",
    b"frameset",
}

# Formats whose first bytes, or all of them, may be letters. Each says enough for no prose to begin
# with it.
_SIGNATURES = tuple(
    (re.compile(pattern, re.DOTALL), mime_type)
    for pattern, mime_type in (
        (rb"%PDF-", "application/pdf"),
        (rb"(?:\x04|\x1b%-12345X[^%]*)?%!PS(?![\w])", "application/postscript"),
        (rb"\{\\rtf[0-9\\]", "application/rtf"),
        (rb"BZh[1-9](?:1AY&SY|\x17rE8P\x90)", "application/x-bzip2"),
        (rb"!<arch>\ndebian-binary", "application/vnd.debian.binary-package"),
        (rb"!<arch>\n", "application/x-unix-archive"),
        (rb"SIMPLE  = {20}T", "application/fits"),
        (rb"#!AMR\n", "audio/amr"),
        (rb"#!AMR-WB\n", "audio/amr-wb"),
        (rb"YUV4MPEG2 ", "video/x-yuv4mpeg"),
        (rb"#\?(?:RADIANCE|RGBE)\n", "image/vnd.radiance"),
        (rb"(?: *999\r?\n[^\n]*\n)* *0\r?\n *SECTION\r?\n", "image/vnd.dxf"),
    )
)

# "Accept a PDF header anywhere within the first 1024 bytes of the file" (Adobe's readers). Prose
# that mentions one has no object, or no comment of binary bytes, on the line behind it.
_LATE_PDF = re.compile(
    rb"%PDF-[0-9]\.[0-9]\s*(?:%[^\r\n]*[\x80-\xff]{3}|(?:%[^\r\n]*)?\s*[0-9]+ [0-9]+ obj)"
)
_PDF_WITHIN = 1024


def decoded_text(head: bytes) -> bytes | None:
    """Decode the text that the first bytes of a file are, into an encoding that has ASCII in it.

    :return: Without a byte order mark; ``None`` if they are no text.
    """
    window = head[:WINDOW]
    for mark, encoding in _MARKS:
        if window.startswith(mark):
            return _recoded(head[len(mark) :], encoding)
    if not window.translate(None, _NOT_BINARY):
        return head
    for start, encoding in _UNMARKED:
        if window.startswith(start):
            return _recoded(head, encoding)
    return None


def _recoded(head: bytes, encoding: str) -> bytes | None:
    """Write text in UTF-8, as much as is looked at.

    :return: ``None`` if it has control characters that no text has.
    """
    text = head
    if encoding != "utf-8":
        characters = head[: 4 * WINDOW].decode(encoding, "replace")
        text = characters.encode(errors="replace")
    if text[:WINDOW].translate(None, _NOT_BINARY):
        return None
    return text


def sniff_text(text: bytes) -> str | None:
    """Recognize the MIME type that a text shows.

    :param text: The first bytes of a file as :func:`decoded_text` gives them.
    :return: ``None`` for prose, source code and whatever else is told by its name alone.
    """
    for pattern, mime_type in _SIGNATURES:
        if pattern.match(text):
            return mime_type
    if is_late_pdf(text):
        return "application/pdf"
    return _sniff_markup(text)


def is_late_pdf(head: bytes) -> bool:
    """Tell whether a PDF begins within the first 1,024 bytes, behind something else."""
    place = head.find(b"%PDF-", 0, _PDF_WITHIN + 5)
    while place >= 0:
        is_first = not head[:place].strip()
        if is_first or _LATE_PDF.match(head, place, place + 512):
            return True
        place = head.find(b"%PDF-", place + 1, _PDF_WITHIN + 5)
    return False


def _sniff_markup(text: bytes) -> str | None:
    """Tell HTML, SVG and XML apart by the root element: other kinds may stand further inside."""
    place = 0
    is_xml = False
    while piece := _PROLOG.match(text, place):
        if _DOCTYPE.match(text, place):
            return "text/html"
        is_xml = is_xml or _DECLARATION.match(text, place) is not None
        place = piece.end()
    if _DOCTYPE.match(text, place):  # without an end
        return "text/html"

    name = b""
    root = _ROOT.match(text, place)
    if root is not None:
        name = root[1].lower()

    if name == b"svg":
        return "image/svg+xml"
    if is_xml:
        return "text/xml"
    if name in _PAGE_ROOTS:
        return "text/html"
    return None
