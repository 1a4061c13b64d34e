"""Files as people have them: what each is, and which kinds of media accept it."""

from __future__ import annotations

import bz2
import gzip
import lzma
import struct
import typing as t

from .file_makers import (
    FILES,
    LONG,
    OTHER,
    box,
    database,
    ftyp,
    ole,
    picture,
    tarred,
    without_ftyp,
    zipped,
)
from .samples import PDF, png

PICTURE, FILM = "product-images", "course-videos"
ANY = ("course-resources", "files")

OFFICE = "application/vnd.openxmlformats-officedocument."
WORD, EXCEL = f"{OFFICE}wordprocessingml.document", f"{OFFICE}spreadsheetml.sheet"
POWERPOINT = f"{OFFICE}presentationml.presentation"
OPEN = "application/vnd.oasis.opendocument."


class RealFile(t.NamedTuple):
    name: str
    content: bytes
    mime_type: str
    resource_type: str
    media_type: str
    accepted_as: tuple[str, ...] = ANY


def document(
    name: str, content: bytes, mime_type: str, resource_type: str = "document"
) -> RealFile:
    return RealFile(name, content, mime_type, resource_type, "document")


def code(name: str, content: bytes, mime_type: str) -> RealFile:
    return document(name, content, mime_type, "code")


def archive(name: str, content: bytes, mime_type: str) -> RealFile:
    return document(name, content, mime_type, "archive")


def film(name: str, mime_type: str, content: bytes | None = None) -> RealFile:
    content = (FILES / name).read_bytes() if content is None else content
    return RealFile(name, content, mime_type, "document", "video", (FILM, *ANY))


def sound(name: str, mime_type: str, content: bytes | None = None) -> RealFile:
    content = (FILES / name).read_bytes() if content is None else content
    return RealFile(name, content, mime_type, "document", "audio")


def image(name: str, mime_type: str, content: bytes, *, is_shown: bool = False) -> RealFile:
    return RealFile(
        name, content, mime_type, "image", "image", (PICTURE, *ANY) if is_shown else ANY
    )


FILMS = [
    film("film.mp4", "video/mp4"), film("faststart.mp4", "video/mp4"),
    film("fragments.mp4", "video/mp4"),
    film("phone.mp4", "video/mp4"), film("psp.mp4", "video/mp4"), film("silent.mp4", "video/mp4"),
    film("itunes.m4v", "video/mp4"), film("camera.mov", "video/quicktime"),
    film("phone.3gp", "video/3gpp"), film("phone.3g2", "video/3gpp2"),
    film("film.mkv", "video/matroska"), film("film.webm", "video/webm"),
    film("silent.webm", "video/webm"), film("film.ogv", "video/ogg"),
    film("broadcast.ts", "video/mp2t"), film("camera.mts", "video/mp2t"),
    film("00001.m2ts", "video/mp2t", (FILES / "camera.mts").read_bytes()),
    film("film.flv", "video/x-flv"), film("film.avi", "video/vnd.avi"),
    film("camera.avi", "video/vnd.avi"), film("film.wmv", "video/x-ms-wmv"),
    film("stream.asf", "video/x-ms-wmv", (FILES / "film.wmv").read_bytes()),
    film("disc.vob", "video/mpeg"),
    film("disc.mpg", "video/mpeg", (FILES / "disc.vob").read_bytes()),
    film("video.m1v", "video/mpeg"), film("film.nut", "video/x-nut"),
    film("film.ivf", "video/x-ivf"),
    film("film.y4m", "video/x-yuv4mpeg"), film("film.mxf", "application/mxf"),
    film("moov.mov", "video/quicktime", without_ftyp(b"moov", b"mdat")),
    film("mdat.mov", "video/quicktime", without_ftyp(b"mdat", b"moov")),
    film("wide.mov", "video/quicktime", without_ftyp(b"wide", b"mdat", b"moov")),
    film("free.mov", "video/quicktime", without_ftyp(b"free", b"mdat", b"moov")),
    film("skip.mov", "video/quicktime", without_ftyp(b"skip", b"moov")),
    film("IMG_0001.MOV", "video/quicktime", ftyp(b"qt  ", b"qt  ") + LONG),
    film("sony.mp4", "video/mp4", ftyp(b"XAVC", b"XAVC", b"mp42") + LONG),
    film("VID_2026.mp4", "video/mp4", ftyp(b"mp42", b"isom") + LONG),
]  # fmt: skip

SOUNDS = [
    sound("memo.m4a", "audio/mp4"), sound("memo.mp4", "audio/mp4"),
    sound("recorded.mp4", "audio/mp4"), sound("memo.mov", "audio/mp4"),
    sound("memo.3gp", "audio/3gpp"), sound("memo.3g2", "audio/3gpp2"),
    sound("memo.m4v", "audio/mp4", (FILES / "memo.mp4").read_bytes()),
    sound("recorded.webm", "audio/webm"), sound("voice.opus", "audio/ogg"),
    sound("music.ogg", "audio/ogg"),
    sound("music.ogv", "audio/ogg", (FILES / "music.ogg").read_bytes()),
    sound("speech.spx", "audio/ogg"), sound("flac.oga", "audio/ogg"),
    sound("music.mka", "audio/matroska"),
    sound("music.mkv", "audio/matroska", (FILES / "music.mka").read_bytes()),
    sound("music.wma", "audio/x-ms-wma"),
    sound("music.asf", "audio/x-ms-wma", (FILES / "music.wma").read_bytes()),
    sound("music.mp3", "audio/mpeg"), sound("bare.mp3", "audio/mpeg"),
    sound("music.mp2", "audio/mpeg"), sound("music.aac", "audio/aac"),
    sound("music.flac", "audio/flac"), sound("sound.wav", "audio/wav"),
    sound("long.wav", "audio/wav"), sound("sound.aiff", "audio/x-aiff"),
    sound("sound.caf", "audio/x-caf"),
    sound("sound.au", "audio/basic"), sound("music.wv", "audio/x-wavpack"),
    sound("song.mid", "audio/midi", b"MThd\0\0\0\6\0\0\0\1\0\x60MTrk\0\0\0\4\0\xff\x2f\0"),
    sound("call.amr", "audio/amr", b"#!AMR\n" + b"\x3c\0\1\2" * 8),
    # The index of a long one is at its end, and its name tells.
    sound("long.m4a", "audio/mp4", ftyp(b"mp42", b"isom") + LONG),
    sound("book.m4b", "audio/mp4", ftyp(b"M4B ", b"isom") + LONG),
]  # fmt: skip

SVG_TAG = b'<svg xmlns="http://www.w3.org/2000/svg"><path/></svg>'
SVG_PREFIXED = b'<svg:svg xmlns:svg="http://www.w3.org/2000/svg"><svg:path/></svg:svg>'
SVG_DOCTYPE = (
    b'<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN"'
    b' "http://www.w3.org/Graphics/SVG/1.1/DTD/svg11.dtd">\n'
)
SVG_ENTITIES = (
    b'<!DOCTYPE svg PUBLIC "a" "b" [\n<!ENTITY ns_svg "http://www.w3.org/2000/svg">\n]>\n'
)
PROLOG = b'<?xml version="1.0" encoding="UTF-8" standalone="no"?>\n'

MEASURED = box(
    b"meta", bytes(4) + box(b"iprp", box(b"ipco", box(b"ispe", struct.pack(">III", 0, 32, 32))))
)

ANIMATED = picture("PNG", save_all=True, append_images=[OTHER])
MIF1_AVIF = ftyp(b"mif1", b"mif1", b"avif", b"miaf")
LONG_PREAMBLE = b"\n\n  " + b"<!-- " + b"long " * 2000 + b"-->\n<?x y?>"
UTF16_BE = b"\xfe\xff" + (PROLOG + SVG_PREFIXED).decode().encode("utf-16-be")
ADOBE = b"<!-- Adobe > Illustrator -->"

IMAGES = [
    image("a.png", "image/png", picture("PNG"), is_shown=True),
    image("a.apng", "image/png", ANIMATED, is_shown=True),
    image("a.jpg", "image/jpeg", picture("JPEG"), is_shown=True),
    image("a.jfif", "image/jpeg", picture("JPEG", progressive=True), is_shown=True),
    image("a.gif", "image/gif", picture("GIF"), is_shown=True),
    image("a.webp", "image/webp", picture("WEBP"), is_shown=True),
    image("b.webp", "image/webp", picture("WEBP", lossless=True), is_shown=True),
    image("a.avif", "image/avif", picture("AVIF"), is_shown=True),
    image("b.avif", "image/avif", MIF1_AVIF + MEASURED, is_shown=True),
    image("c.avif", "image/avif", ftyp(b"avis", b"avis", b"msf1") + MEASURED, is_shown=True),
    image("a.heic", "image/heic", ftyp(b"heic", b"mif1", b"heic")),
    image("b.heic", "image/heic", ftyp(b"mif1", b"mif1", b"heic")),
    image("c.heic", "image/heic", ftyp(b"heix", b"mif1")),
    image("a.heif", "image/heif", ftyp(b"mif1", b"mif1")),
    image("IMG_1.CR3", "image/x-canon-cr3", ftyp(b"crx ", b"crx ", b"isom")),
    image("IMG_1.CR2", "image/x-canon-cr2", b"II*\0\x10\0\0\0CR\2\0" + bytes(40)),
    image("DSC_1.NEF", "image/x-nikon-nef", picture("TIFF")),
    image("IMG_1.dng", "image/x-adobe-dng", picture("TIFF")),
    image("a.tif", "image/tiff", picture("TIFF")),
    image("b.tiff", "image/tiff", picture("TIFF", big_endian=True)),
    image("a.bmp", "image/bmp", picture("BMP")),
    image("a.ico", "image/vnd.microsoft.icon", picture("ICO")),
    image("a.icns", "image/x-icns", picture("ICNS")),
    image("a.jp2", "image/jp2", picture("JPEG2000")),
    image("a.ppm", "image/x-portable-anymap", picture("PPM")),
    image("a.jxl", "image/jxl", b"\0\0\0\x0cJXL \r\n\x87\n" + ftyp(b"jxl ", b"jxl ")),
    image("a.psd", "image/vnd.adobe.photoshop", b"8BPS\0\1" + bytes(30)),
    image("a.dxf", "image/vnd.dxf", b"  0\r\nSECTION\r\n  2\r\nHEADER\r\n"),
    image("a.svg", "image/svg+xml", SVG_TAG),
    image("b.svg", "image/svg+xml", PROLOG + SVG_TAG),
    image("c.svg", "image/svg+xml", SVG_PREFIXED),
    image("d.svg", "image/svg+xml", PROLOG + b"<!-- Created with Inkscape -->\n" + SVG_PREFIXED),
    image("e.svg", "image/svg+xml", PROLOG + SVG_DOCTYPE + SVG_TAG),
    image("f.svg", "image/svg+xml", PROLOG + ADOBE + SVG_ENTITIES + SVG_TAG),
    image("g.svg", "image/svg+xml", b"\xef\xbb\xbf" + SVG_TAG),
    image("h.svg", "image/svg+xml", b"\xff\xfe" + (PROLOG + SVG_TAG).decode().encode("utf-16-le")),
    image("i.svg", "image/svg+xml", UTF16_BE),
    image("j.svg", "image/svg+xml", SVG_TAG.decode().encode("utf-16-le")),
    image("k.svg", "image/svg+xml", LONG_PREAMBLE + SVG_TAG),
]  # fmt: skip

CONTENT_TYPES = "[Content_Types].xml"
RELATIONS, TEXT_PART = "_rels/.rels", "word/document.xml"
LIBRE = zipped(RELATIONS, "docProps/app.xml", TEXT_PART, CONTENT_TYPES)
REORDERED = zipped("word/numbering.xml", TEXT_PART, RELATIONS, CONTENT_TYPES)
MANY_PARTS = zipped(CONTENT_TYPES, *(f"customXml/{n}" for n in range(9)), TEXT_PART)
MOBI = b"Book".ljust(60, b"\0") + b"BOOKMOBI" + bytes(20)
EPUB_TYPE = "application/epub+zip"
WORD_MACROS = "application/vnd.ms-word.document.macroenabled.12"
EXCEL_MACROS = "application/vnd.ms-excel.sheet.macroenabled.12"
EXCEL_BINARY = "application/vnd.ms-excel.sheet.binary.macroenabled.12"
SLIDESHOW = f"{OFFICE}presentationml.slideshow"
VISIO = "application/vnd.ms-visio.drawing.main+xml"
OPEN_TEMPLATE = f"{OPEN}text-template"

OFFICE_FILES = [
    document("ms.docx", zipped(CONTENT_TYPES, "_rels/.rels", "word/document.xml"), WORD),
    document("libre.docx", LIBRE, WORD),
    document("other.docx", REORDERED, WORD),
    document("many.docx", MANY_PARTS, WORD),
    document("renamed.zip", zipped(CONTENT_TYPES, "_rels/.rels", "word/document.xml"), WORD),
    document("bare.docx", zipped("a.xml"), WORD),
    document("secret.docx", ole("EncryptionInfo", "EncryptedPackage"), WORD),
    document("a.docm", zipped(CONTENT_TYPES, TEXT_PART), WORD_MACROS),
    document("a.dotx", zipped(CONTENT_TYPES, TEXT_PART), f"{OFFICE}wordprocessingml.template"),
    document("a.xlsx", zipped(CONTENT_TYPES, "_rels/.rels", "xl/workbook.xml"), EXCEL),
    document("a.xlsm", zipped(CONTENT_TYPES, "xl/workbook.xml"), EXCEL_MACROS),
    document("a.xlsb", zipped(CONTENT_TYPES, "xl/a.bin"), EXCEL_BINARY),
    document("a.pptx", zipped(CONTENT_TYPES, "_rels/.rels", "ppt/presentation.xml"), POWERPOINT),
    document("a.ppsx", zipped(CONTENT_TYPES, "ppt/presentation.xml"), SLIDESHOW),
    document("a.vsdx", zipped(CONTENT_TYPES, "visio/document.xml"), VISIO),
    document("a.doc", ole("WordDocument", "1Table"), "application/msword"),
    document("a.xls", ole("Workbook"), "application/vnd.ms-excel"),
    document("b.xls", ole("Book"), "application/vnd.ms-excel"),
    document("a.ppt", ole("Current User", "PowerPoint Document"), "application/vnd.ms-powerpoint"),
    document("a.msg", ole("__properties_version1.0"), "application/vnd.ms-outlook"),
    document("a.vsd", ole("VisioDocument"), "application/vnd.visio"),
    document("a.pub", ole("Quill", "Contents"), "application/x-mspublisher"),
    document("a.mpp", ole("Props12"), "application/vnd.ms-project"),
    document("odd.doc", ole("Contents"), "application/msword"),
    document("a.odt", zipped("content.xml", mimetype=f"{OPEN}text"), f"{OPEN}text"),
    document("a.ods", zipped("content.xml", mimetype=f"{OPEN}spreadsheet"), f"{OPEN}spreadsheet"),
    document("a.odp", zipped("content.xml", mimetype=f"{OPEN}presentation"), f"{OPEN}presentation"),
    document("a.odg", zipped("content.xml", mimetype=f"{OPEN}graphics"), f"{OPEN}graphics"),
    document("a.ott", zipped("content.xml", mimetype=OPEN_TEMPLATE), OPEN_TEMPLATE),
    document("a.odf", zipped("content.xml", mimetype=f"{OPEN}formula"), f"{OPEN}formula"),
    document("a.fodt", PROLOG + b"<office:document xmlns:office='x'/>", f"{OPEN}text-flat-xml"),
    document("a.pages", zipped("Index/Document.iwa"), "application/vnd.apple.pages"),
    document("a.numbers", zipped("Index/Document.iwa"), "application/vnd.apple.numbers"),
    document("a.key", zipped("Index/Document.iwa"), "application/vnd.apple.keynote"),
    document("a.epub", zipped("META-INF/container.xml", mimetype=EPUB_TYPE), EPUB_TYPE),
    document("a.rtf", b"{\\rtf1\\ansi hello}", "application/rtf"),
    document("a.ps", b"%!PS-Adobe-3.0\n", "application/postscript"),
    document("a.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n", "application/postscript"),
    document("a.mobi", MOBI, "application/x-mobipocket-ebook"),
    document("a.fb2", PROLOG + b"<FictionBook/>", "application/x-fictionbook+xml"),
    document("a.cbz", zipped("001.jpg"), "application/vnd.comicbook+zip"),
    document("a.sqlite", database(), "application/vnd.sqlite3"),
    document("a.drawio", b"<mxfile><diagram/></mxfile>", "application/vnd.jgraph.mxfile"),
    document("a.ggb", zipped("geogebra.xml"), "application/vnd.geogebra.file"),
    document("a.h5p", zipped("h5p.json"), "application/vnd.h5p"),
    document("a.musicxml", PROLOG + b"<score-partwise/>", "application/vnd.recordare.musicxml+xml"),
    document("a.kml", PROLOG + b"<kml/>", "application/vnd.google-earth.kml+xml"),
    document("a.gpx", PROLOG + b"<gpx/>", "application/gpx+xml"),
    # Models
    document("a.glb", b"glTF\2\0\0\0" + bytes(20), "model/gltf-binary"),
    document("a.gltf", b'{"asset": {}}', "model/gltf+json"),
    document("a.stl", b"solid cube\nfacet normal 0 0 1\n", "model/stl"),
    document("b.stl", bytes(80) + struct.pack("<I", 1) + bytes(50), "model/stl"),
    document("a.obj", b"v 0 0 0\nf 1 1 1\n", "model/obj"),
    document("a.3mf", zipped(CONTENT_TYPES, "_rels/.rels", "3D/3dmodel.model"), "model/3mf"),
    document("a.dae", PROLOG + b"<COLLADA/>", "model/vnd.collada+xml"),
    document("a.step", b"ISO-10303-21;\nHEADER;\n", "model/step"),
    document("a.usdz", zipped("a.usdc"), "model/vnd.usdz+zip"),
    # Fonts
    document("a.ttf", b"\0\1\0\0\0\x0c" + bytes(40), "font/ttf"),
    document("a.otf", b"OTTO\0\x0c" + bytes(40), "font/otf"),
    document("a.woff", b"wOFF\0\1\0\0" + bytes(40), "font/woff"),
    document("a.woff2", b"wOF2\0\1\0\0" + bytes(40), "font/woff2"),
    document("a.ttc", b"ttcf\0\1\0\0" + bytes(40), "font/collection"),
]  # fmt: skip

DEBIAN = b"!<arch>\ndebian-binary   1410122664  0     0     100644  4         `\n2.0\n"

ARCHIVES = [
    archive("a.zip", zipped("a.txt"), "application/zip"),
    archive("empty.zip", zipped(), "application/zip"),
    archive("letters.zip", zipped("word/essay.txt", "xl/table.csv"), "application/zip"),
    archive("a.tar", tarred(), "application/x-tar"),
    archive("a.tar.gz", gzip.compress(tarred()), "application/gzip"),
    archive("a.tgz", gzip.compress(tarred()), "application/gzip"),
    archive("a.tar.bz2", bz2.compress(tarred()), "application/x-bzip2"),
    archive("small.bz2", bz2.compress(b"x"), "application/x-bzip2"),
    archive("a.tar.xz", lzma.compress(tarred()), "application/x-xz"),
    archive("a.7z", b"7z\xbc\xaf\x27\x1c\0\4" + bytes(30), "application/x-7z-compressed"),
    archive("a.rar", b"Rar!\x1a\7\1\0" + bytes(30), "application/vnd.rar"),
    archive("a.zst", b"\x28\xb5\x2f\xfd\x24\1\0\0", "application/zstd"),
    archive("a.jar", zipped("META-INF/MANIFEST.MF", "A.class"), "application/java-archive"),
    archive("a.apk", zipped("AndroidManifest.xml", "classes.dex"),
            "application/vnd.android.package-archive"),
    archive("a.iso", bytes(32768) + b"\1CD001\1\0" + bytes(2000), "application/x-iso9660-image"),
    archive("a.dmg", b"x\xda" + bytes(200), "application/x-apple-diskimage"),
    archive("a.deb", DEBIAN + bytes(9), "application/vnd.debian.binary-package"),
    archive("a.mbz", gzip.compress(b"moodle"), "application/vnd.moodle.backup"),
    archive("a.cab", b"MSCF\0\0\0\0" + bytes(30), "application/vnd.ms-cab-compressed"),
]  # fmt: skip

PDFS = [
    document(f"{number}.pdf", content, "application/pdf", "pdf")
    for number, content in enumerate((
        PDF,
        b"\xef\xbb\xbf" + PDF,
        b"\r\n\r\n" + PDF,
        b"\0" * 1024 + PDF,
        b"x" * 1024 + PDF,
        b"\x1b%-12345X@PJL JOB\r\n@PJL ENTER LANGUAGE=PDF\r\n" + PDF,
        b"<br />\n<b>Warning</b>: something in a.php on line 1<br />\n" + PDF,
        b"HTTP/1.1 200 OK\r\n\r\n%PDF-1.4\n%\xe2\xe3\xcf\xd3\n1 0 obj\n",
        picture("PDF"),
    ))
]  # fmt: skip

_NOTEBOOK = b'{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}'

# Text, told by its name: names of the same type on a line.
_BY_NAME: list[tuple[str, str, str]] = [
    ("a.txt README LICENSE server.log", "text/plain", "document"),
    ("a.md b.markdown report.qmd", "text/markdown", "document"),
    ("a.csv", "text/csv", "document"),
    ("a.tsv b.tab", "text/tab-separated-values", "document"),
    ("a.rst", "text/x-rst", "document"),
    ("a.adoc", "text/asciidoc", "document"),
    ("a.tex b.latex c.sty d.cls", "text/x-tex", "document"),
    ("a.bib", "text/x-bibtex", "document"),
    ("a.ics", "text/calendar", "document"),
    ("a.vcf", "text/vcard", "document"),
    ("a.vtt", "text/vtt", "document"),
    ("a.srt", "application/x-subrip", "document"),
    ("a.ass b.ssa", "text/x-ssa", "document"),
    ("a.lrc", "text/x-lrc", "document"),
    ("a.ttml", "application/ttml+xml", "document"),
    ("a.m3u8 b.m3u", "application/vnd.apple.mpegurl", "document"),
    ("a.geojson", "application/geo+json", "document"),
    ("a.gcode", "text/x.gcode", "document"),
    ("a.ipynb", "application/x-ipynb+json", "code"),
    ("a.json b.jsonl", "application/json", "code"),
    ("a.yaml b.yml", "application/yaml", "code"),
    ("a.toml", "application/toml", "code"),
    ("a.ini b.cfg", "text/x-ini", "code"),
    ("a.sql", "application/sql", "code"),
    ("a.html b.htm", "text/html", "code"),
    ("a.css", "text/css", "code"),
    ("a.scss", "text/x-scss", "code"),
    ("a.js b.mjs c.jsx", "text/javascript", "code"),
    ("a.ts b.tsx c.mts", "text/x-typescript", "code"),
    ("a.vue", "text/x-vue", "code"),
    ("a.php", "text/x-php", "code"),
    ("a.py b.pyw", "text/x-python", "code"),
    ("a.c", "text/x-csrc", "code"),
    ("a.h", "text/x-chdr", "code"),
    ("a.cpp b.cc c.ino", "text/x-c++src", "code"),
    ("a.cs", "text/x-csharp", "code"),
    ("A.java", "text/x-java", "code"),
    ("a.kt", "text/x-kotlin", "code"),
    ("a.scala", "text/x-scala", "code"),
    ("a.gradle Jenkinsfile", "text/x-groovy", "code"),
    ("a.go go.mod", "text/x-go", "code"),
    ("a.rs", "text/x-rust", "code"),
    ("a.swift", "text/x-swift", "code"),
    ("a.m", "text/x-matlab", "code"),
    ("a.r b.R", "text/x-r", "code"),
    ("a.jl", "text/x-julia", "code"),
    ("a.rb Gemfile", "text/x-ruby", "code"),
    ("a.pl", "text/x-perl", "code"),
    ("a.lua", "text/x-lua", "code"),
    ("a.hs", "text/x-haskell", "code"),
    ("a.ml", "text/x-ocaml", "code"),
    ("a.ex", "text/x-elixir", "code"),
    ("a.clj", "text/x-clojure", "code"),
    ("a.scm", "text/x-scheme", "code"),
    ("a.pas", "text/x-pascal", "code"),
    ("a.f90", "text/x-fortran", "code"),
    ("a.vb", "text/x-vb", "code"),
    ("a.dart", "text/x-dart", "code"),
    ("a.sh b.bash", "application/x-sh", "code"),
    ("a.bat", "application/x-bat", "code"),
    ("a.ps1", "application/x-powershell", "code"),
    ("a.asm", "text/x-asm", "code"),
    ("a.vhd", "text/x-vhdl", "code"),
    ("a.v", "text/x-verilog", "code"),
    ("a.tf", "text/x-terraform", "code"),
    ("a.diff b.patch", "text/x-diff", "code"),
    ("a.proto", "text/x-protobuf", "code"),
    ("Dockerfile Dockerfile.dev Containerfile", "text/x-dockerfile", "code"),
    ("Makefile rules.mk", "text/x-makefile", "code"),
    ("CMakeLists.txt", "text/x-cmake", "code"),
    ("a.unknown noextension", "application/octet-stream", "document"),
]

TEXTS = [
    document(
        name,
        _NOTEBOOK if name.endswith(".ipynb") else b"some text, and more\n",
        mime_type,
        resource_type,
    )
    for names, mime_type, resource_type in _BY_NAME
    for name in names.split()
]

PAGE = b"<h1>Title</h1><svg><path/></svg>"
XHTML_TAG = b"<html xmlns='http://www.w3.org/1999/xhtml'>"
HTML_DOCTYPE = b"<!DOCTYPE html PUBLIC 'a' 'b'>\n"

MARKUP = [
    code("1.html", b"<!DOCTYPE html><html><body>" + PAGE, "text/html"),
    code("2.html", b"<html>" + PAGE, "text/html"),
    code("3.html", b"<!-- saved from url=(0014)about:internet -->\n<html>" + PAGE, "text/html"),
    code("4.html", PROLOG + HTML_DOCTYPE + b"<html xmlns='x'>" + PAGE, "text/html"),
    code("5.html", PROLOG + XHTML_TAG + PAGE, "text/html"),
    code("6.html", b"<!-- c --><title>a</title>" + PAGE, "text/html"),
    code("7.html", PAGE, "text/html"),
    code("8.html", b"\xff\xfe" + "<!doctype html><p>ä".encode("utf-16-le"), "text/html"),
    code("9.xhtml", PROLOG + XHTML_TAG + PAGE, "application/xhtml+xml"),
    code("page.jpg", b"<html>" + PAGE, "text/html"),
    code("App.vue", b"<script setup>\nlet a = 1\n</script>\n", "text/x-vue"),
    code("index.php", b"<!DOCTYPE html><html><?php echo 1; ?>", "text/x-php"),
    code("a.xml", PROLOG + b"<feed/>", "text/xml"),
    code("b.xml", PROLOG + b"<!-- <svg> --><feed><svg/></feed>", "text/xml"),
    code("pom.xml", b"<project/>", "text/xml"),
    document("1.md", b"<!-- a comment -->\n# Title\n" + PAGE, "text/markdown"),
    document("2.md", b"<!--\n<!DOCTYPE html><html>\n-->\n# Title\n", "text/markdown"),
    document("3.md", b"<p align=center><img src=a></p>\n\n# Title\n", "text/markdown"),
    document("4.md", b"<header>\n# Title\n", "text/markdown"),
    document("5.md", b"<!-- no end\n# Title\n", "text/markdown"),
]  # fmt: skip

SHORT_SIGNATURES = [
    b"BM", b"MZ", b"II*", b"MM", b"ID3", b"GIF", b"GIF8", b"RIFF", b"%!", b"PK", b"CWS", b"FWS",
    b"BZh", b"SQLi", b"8BPS", b"\xff\xd8", b"\xff\xd8\xff", b"\xff\xfb", b"\xff\xf1", b"\xff\n",
    b"OggS", b"fLaC", b"LZIP", b"AC10", b"MThd", b"Cr24", b"FLV", b"wOFF", b"OTTO", b"NES",
    b"MSCF", b"ISc(", b"FORM", b"P4", b"P6 1 1", b"FUJI", b"0707", b"%PDF", b"{\\rt",
    b"\xce\xb2\xcf\x81", b"G", b"abcdftypisom", b"abcdmoov", b"abcdmdat", b"%!TEX root = a",
    b"Rar!", b"7z", b"caff", b"glTF", b"MAC ", b"wvpk", b"II\xbc", b"AT&T", b".snd", b"DKIF",
    b"TRUEVISION", b"ttcf",
]  # fmt: skip

ABOUT_PDF = b"# How to write a PDF\n\nIt begins with `%PDF-1.7`, then come objects.\n"

LETTERS = [
    document(f"{number}.csv", letters + b"W;Audi\n1;2\n" * 9, "text/csv")
    for number, letters in enumerate(SHORT_SIGNATURES)
] + [
    document("bmw.csv", b"BMW;Audi\n1;2\n", "text/csv"),
    document("pdf.md", ABOUT_PDF, "text/markdown"),
    document("utf16.csv", b"\xff\xfe" + "BMW;Audi\n".encode("utf-16-le"), "text/csv"),
    document("latin.txt", "ÿØÿ, Bücher und Größen\n".encode("latin-1"), "text/plain"),
    document("sjis.txt", "日本語の文書\n".encode("shift-jis"), "text/plain"),
]  # fmt: skip

FALSE_NAMES = "a.png a.svg a.mp4 a.webm a.mp3 a.pdf a.zip a.docx a.woff2 a.key a.dng"

# Bytes that are not what they are called: no name makes them a picture, or a film.
PRETENDERS = [
    document(name, b"just text\n", "application/octet-stream") for name in FALSE_NAMES.split()
] + [
    document("long.bmp", b"BM" + bytes(60), "application/octet-stream"),
    document("tail.tif", b"II*\0" + bytes(60), "application/octet-stream"),
    document("a.exe", b"MZ" + bytes(60), "application/octet-stream"),
]

REAL_FILES = [
    *FILMS, *SOUNDS, *IMAGES, *OFFICE_FILES, *ARCHIVES,
    *PDFS, *TEXTS, *MARKUP, *LETTERS, *PRETENDERS,
    image("photo.png", "image/png", png(), is_shown=True),
]  # fmt: skip
