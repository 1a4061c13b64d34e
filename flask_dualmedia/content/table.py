"""The types of files that people keep: one table, the same on every machine.

A line is a MIME type, the name that IANA has registered where there is one, with the extensions of
its files, the usual one first. An indented line continues the one before it. Lines are in sections
by the ``resource_type`` of a course resource. These may stand in a line besides:

``!``           in front: the bytes show this type, so that no name or claim alone makes a file one
                of it
``/makefile``   a whole filename instead of an extension
``= ...``       other names for the same type
``in ...``      types that the bytes show of such a file: it is a ZIP archive, say, and only its
                name tells more
``as ...``      the ``media_type`` of files, where it is not in the MIME type

A line that begins with ``#`` is for people.
"""

from __future__ import annotations

from .code import CODE

OLE = "application/x-ole-storage"
"""Containers of Microsoft Office 97 to 2003, Outlook, Visio, Publisher, Project, Works."""

SECTIONS = {
    "pdf": """
!application/pdf: pdf = application/x-pdf application/acrobat
""",
    "document": f"""
# Text
text/plain: txt text log asc nfo me
    /readme /license /licence /copying /authors /changelog /notice /todo
text/markdown: md markdown mdown mkd mkdn mdtxt rmd qmd = text/x-markdown
text/x-rst: rst rest
text/asciidoc: adoc asciidoc
text/org: org
text/textile: textile
text/x-tex: tex latex ltx sty cls dtx ins = application/x-tex application/x-latex text/x-latex
text/x-bibtex: bib = application/x-bibtex
application/x-research-info-systems: ris
!application/rtf: rtf = text/rtf application/x-rtf text/richtext
text/troff: roff man = application/x-troff

# Tables
text/csv: csv = application/csv text/x-csv text/comma-separated-values
text/tab-separated-values: tsv tab
application/x-spss-sav: sav
application/x-stata-dta: dta
application/vnd.apache.parquet: parquet
application/x-matlab-data: mat
application/x-hdf5: h5 hdf5 hdf = application/x-hdf
application/x-netcdf: nc cdf
!application/vnd.sqlite3: sqlite sqlite3 db db3 = application/x-sqlite3
application/geopackage+sqlite3: gpkg in application/vnd.sqlite3
application/vnd.ms-access: mdb accdb = application/x-msaccess application/msaccess
application/x-dbf: dbf = application/dbase
!application/fits: fits fit fts = image/fits

# Office: Microsoft
!{OLE}: ole = application/x-cfb application/cdfv2
!application/msword: doc dot wiz = application/vnd.ms-word application/x-msword in {OLE}
!application/vnd.ms-excel: xls xlt xla xlm xlc
    = application/excel application/x-excel application/x-msexcel in {OLE}
!application/vnd.ms-powerpoint: ppt pps pot ppa
    = application/mspowerpoint application/x-mspowerpoint in {OLE}
!application/vnd.openxmlformats-officedocument.wordprocessingml.document: docx
    in application/zip {OLE}
application/vnd.openxmlformats-officedocument.wordprocessingml.template: dotx
    in DOCX application/zip {OLE}
application/vnd.ms-word.document.macroenabled.12: docm in DOCX application/zip {OLE}
application/vnd.ms-word.template.macroenabled.12: dotm in DOCX application/zip {OLE}
!application/vnd.openxmlformats-officedocument.spreadsheetml.sheet: xlsx in application/zip {OLE}
application/vnd.openxmlformats-officedocument.spreadsheetml.template: xltx
    in XLSX application/zip {OLE}
application/vnd.ms-excel.sheet.macroenabled.12: xlsm in XLSX application/zip {OLE}
application/vnd.ms-excel.template.macroenabled.12: xltm in XLSX application/zip {OLE}
application/vnd.ms-excel.addin.macroenabled.12: xlam in XLSX application/zip {OLE}
application/vnd.ms-excel.sheet.binary.macroenabled.12: xlsb in XLSX application/zip {OLE}
!application/vnd.openxmlformats-officedocument.presentationml.presentation: pptx
    in application/zip {OLE}
application/vnd.openxmlformats-officedocument.presentationml.slideshow: ppsx
    in PPTX application/zip {OLE}
application/vnd.openxmlformats-officedocument.presentationml.template: potx
    in PPTX application/zip {OLE}
application/vnd.openxmlformats-officedocument.presentationml.slide: sldx
    in PPTX application/zip {OLE}
application/vnd.ms-powerpoint.presentation.macroenabled.12: pptm in PPTX application/zip {OLE}
application/vnd.ms-powerpoint.slideshow.macroenabled.12: ppsm in PPTX application/zip {OLE}
application/vnd.ms-powerpoint.template.macroenabled.12: potm in PPTX application/zip {OLE}
application/vnd.ms-officetheme: thmx in PPTX application/zip
!application/vnd.ms-outlook: msg oft = application/x-msg in {OLE}
application/vnd.ms-outlook-pst: pst ost
!application/vnd.visio: vsd vst vss vsw = application/x-visio application/vnd.ms-visio in {OLE}
!application/vnd.ms-visio.drawing.main+xml: vsdx = application/vnd.ms-visio.drawing
    in application/zip
application/vnd.ms-visio.drawing.macroenabled.main+xml: vsdm in VSDX application/zip
application/vnd.ms-visio.template.main+xml: vstx in VSDX application/zip
application/vnd.ms-visio.stencil.main+xml: vssx in VSDX application/zip
!application/x-mspublisher: pub = application/vnd.ms-publisher in {OLE}
application/vnd.ms-project: mpp mpt in {OLE}
application/vnd.ms-works: wps wks wcm wdb in {OLE}
application/onenote: one onetoc2 onepkg
application/oxps: oxps in application/zip
application/vnd.ms-xpsdocument: xps in application/zip
application/vnd.ms-htmlhelp: chm = application/x-chm
application/x-mswrite: wri

# Office: the others
!application/vnd.oasis.opendocument.text: odt in application/zip
!application/vnd.oasis.opendocument.text-template: ott in application/zip
!application/vnd.oasis.opendocument.text-master: odm in application/zip
!application/vnd.oasis.opendocument.text-web: oth in application/zip
!application/vnd.oasis.opendocument.spreadsheet: ods in application/zip
!application/vnd.oasis.opendocument.spreadsheet-template: ots in application/zip
!application/vnd.oasis.opendocument.presentation: odp in application/zip
!application/vnd.oasis.opendocument.presentation-template: otp in application/zip
!application/vnd.oasis.opendocument.graphics: odg in application/zip
!application/vnd.oasis.opendocument.graphics-template: otg in application/zip
!application/vnd.oasis.opendocument.chart: odc in application/zip
!application/vnd.oasis.opendocument.formula: odf in application/zip
!application/vnd.oasis.opendocument.image: odi in application/zip
!application/vnd.oasis.opendocument.base: odb = application/vnd.oasis.opendocument.database
    in application/zip
application/vnd.oasis.opendocument.text-flat-xml: fodt in text/xml
application/vnd.oasis.opendocument.spreadsheet-flat-xml: fods in text/xml
application/vnd.oasis.opendocument.presentation-flat-xml: fodp in text/xml
application/vnd.oasis.opendocument.graphics-flat-xml: fodg in text/xml
application/vnd.sun.xml.writer: sxw stw in application/zip
application/vnd.sun.xml.calc: sxc stc in application/zip
application/vnd.sun.xml.impress: sxi sti in application/zip
application/vnd.sun.xml.draw: sxd std in application/zip
application/vnd.sun.xml.math: sxm in application/zip
application/vnd.apple.pages: pages = application/x-iwork-pages-sffpages in application/zip
application/vnd.apple.numbers: numbers = application/x-iwork-numbers-sffnumbers in application/zip
application/vnd.apple.keynote: key keynote = application/x-iwork-keynote-sffkey in application/zip
application/vnd.wordperfect: wpd wp wp5 wp6 = application/wordperfect
application/vnd.lotus-1-2-3: wk1 wk3 wk4
application/vnd.lotus-wordpro: lwp
application/x-hwp: hwp hwt = application/vnd.hancom.hwp in {OLE}
application/hwp+zip: hwpx in application/zip
application/x-abiword: abw zabw in text/xml application/gzip
application/x-gnumeric: gnumeric in application/gzip text/xml
application/x-scribus: sla scd in text/xml
application/x-indesign: indd
application/vnd.adobe.indesign-idml-package: idml in application/zip
application/x-quarkxpress: qxd qxp
application/vnd.google-apps.document: gdoc
application/vnd.google-apps.spreadsheet: gsheet
application/vnd.google-apps.presentation: gslides

# Diagrams, maps of the mind, music, mathematics, questions
application/vnd.jgraph.mxfile: drawio dio in text/xml
application/x-freemind: mm in text/xml
application/vnd.xmind.workbook: xmind in application/zip
application/vnd.recordare.musicxml+xml: musicxml mxl in text/xml application/zip
application/x-musescore: mscz mscx in application/zip text/xml
application/vnd.geogebra.file: ggb in application/zip
application/vnd.geogebra.tool: ggt in application/zip
application/vnd.h5p: h5p in application/zip
application/vnd.anki: apkg colpkg in application/zip
application/x-smarttech-notebook: notebook in application/zip
application/mathml+xml: mathml mml in text/xml
application/vnd.google-earth.kml+xml: kml in text/xml
application/vnd.google-earth.kmz: kmz in application/zip
application/gpx+xml: gpx in text/xml
application/geo+json: geojson
application/vnd.scratch.project: sb3 sb2 in application/zip

# Pages for printing
!application/postscript: ps eps epsf epsi = application/eps image/eps image/x-eps
application/vnd.adobe.illustrator: ai = application/illustrator
    in application/pdf application/postscript
application/x-dvi: dvi

# Electronic books
!application/epub+zip: epub in application/zip
!application/x-mobipocket-ebook: mobi prc
application/vnd.amazon.mobi8-ebook: azw3 kf8 in application/x-mobipocket-ebook
application/vnd.amazon.ebook: azw in application/x-mobipocket-ebook
application/x-fictionbook+xml: fb2 in text/xml
application/x-zip-compressed-fb2: fbz in application/zip
application/vnd.comicbook+zip: cbz = application/x-cbz in application/zip
application/vnd.comicbook-rar: cbr = application/x-cbr in application/vnd.rar
application/x-ibooks+zip: ibooks in application/zip
application/x-ms-reader: lit
application/vnd.palm: pdb

# Subtitles
text/vtt: vtt
application/x-subrip: srt = text/srt application/srt
text/x-ssa: ass ssa
text/x-subviewer: sbv
text/x-microdvd: sub
text/x-lrc: lrc
application/ttml+xml: ttml dfxp in text/xml
application/x-sami: smi sami in text/html
text/x-scc: scc

# Calendars, people, mail
text/calendar: ics ical ifb icalendar = application/ics
text/x-vcalendar: vcs
text/vcard: vcf vcard = text/x-vcard text/directory
message/rfc822: eml
application/mbox: mbox

# Playlists, which are text
application/vnd.apple.mpegurl: m3u8 m3u = application/x-mpegurl audio/mpegurl audio/x-mpegurl
application/dash+xml: mpd in text/xml
application/xspf+xml: xspf in text/xml
application/x-pls: pls
application/rss+xml: rss in text/xml
application/atom+xml: atom in text/xml
application/x-bittorrent: torrent

# Models
model/gltf+json: gltf
!model/gltf-binary: glb
model/stl: stl = application/sla application/vnd.ms-pki.stl model/x.stl-binary model/x.stl-ascii
model/obj: obj
model/mtl: mtl
model/3mf: 3mf in application/zip
model/vnd.collada+xml: dae in text/xml
model/x3d+xml: x3d in text/xml
model/vrml: wrl vrml
model/step: step stp p21 = application/step
model/iges: igs iges
model/vnd.usdz+zip: usdz in application/zip
model/vnd.usda: usda
model/u3d: u3d
application/x-ply: ply = model/ply
application/vnd.autodesk.fbx: fbx
application/x-blender: blend
application/vnd.sketchup.skp: skp
application/x-cinema4d: c4d
application/x-freecad: fcstd in application/zip
application/x-ifc: ifc
application/vnd.fusion360: f3d in application/zip
text/x.gcode: gcode gco

# Fonts
!font/ttf: ttf = application/font-sfnt application/x-font-ttf application/x-font-truetype font/sfnt
!font/otf: otf = application/x-font-otf application/vnd.ms-opentype
!font/woff: woff = application/font-woff application/x-font-woff
!font/woff2: woff2 = application/font-woff2
!font/collection: ttc otc
!application/vnd.ms-fontobject: eot
application/x-font-type1: pfb pfm afm

# Film. What the bytes show of an MP4 whose index is out of sight is application/mp4.
!application/mp4:
!video/mp4: mp4 m4v mp4v mpg4 f4v = video/x-m4v video/x-mp4 video/h264 in application/mp4
!video/quicktime: mov qt movie = video/x-quicktime
!video/3gpp: 3gp 3gpp = video/3gp
!video/3gpp2: 3g2 3gpp2
!video/webm: webm
!video/matroska: mkv mk3d mks = video/x-matroska
!video/vnd.avi: avi divx = video/x-msvideo video/avi video/msvideo
!video/mpeg: mpg mpeg mpe m1v m2v vob mpv = video/x-mpeg video/mp2p video/mpg
!video/mp2t: mts m2ts ts m2t tod = video/vnd.dlna.mpeg-tts model/vnd.mts video/mpeg2 video/x-mp2t
!video/ogg: ogv ogg = video/x-ogg video/x-theora+ogg in application/ogg
!application/ogg: ogx ogg = application/x-ogg as audio
!video/x-ms-wmv: wmv = video/wmv in application/vnd.ms-asf
!application/vnd.ms-asf: asf asx = video/x-ms-asf application/x-ms-asf as video
!video/x-flv: flv = video/flv
!video/dv: dv dif = video/x-dv
!video/mj2: mj2 mjp2
!application/mxf: mxf as video
!application/vnd.rn-realmedia: rm rmvb = audio/x-pn-realaudio as video
!video/x-nut: nut
!video/x-ivf: ivf
!video/x-yuv4mpeg: y4m
!video/x-wtv: wtv

# Sound
!audio/mpeg: mp3 mp2 mpga mpa = audio/mp3 audio/x-mp3 audio/mpeg3 audio/x-mpeg audio/mpg
!audio/mp4: m4a m4b m4p m4r = audio/x-m4a audio/m4a audio/mp4a-latm audio/x-m4b in application/mp4
!audio/3gpp: 3ga
!audio/3gpp2: 3g2
!audio/aac: aac adts = audio/x-aac audio/aacp audio/x-hx-aac-adts
!audio/ogg: ogg oga opus spx = audio/opus audio/x-ogg audio/vorbis in application/ogg
!audio/wav: wav = audio/x-wav audio/wave audio/vnd.wave audio/x-pn-wav
!audio/flac: flac = audio/x-flac
!audio/webm: weba webm
!audio/matroska: mka = audio/x-matroska
!audio/x-ms-wma: wma = audio/wma in application/vnd.ms-asf
!audio/x-aiff: aiff aif aifc = audio/aiff
!audio/midi: mid midi kar rmi = audio/x-midi audio/sp-midi
!audio/amr: amr = audio/x-amr
!audio/amr-wb: awb
!audio/x-caf: caf
!audio/basic: au snd
!audio/x-ape: ape
!audio/x-wavpack: wv
!audio/ac3: ac3
""",
    "image": """
!image/png: png apng = image/x-png image/apng
!image/jpeg: jpg jpeg jpe jfif pjpeg mpo = image/jpg image/pjpeg image/mpo
!image/gif: gif
!image/webp: webp
!image/avif: avif avifs = image/avif-sequence
!image/heic: heic
!image/heif: heif hif
!image/heic-sequence: heics
!image/heif-sequence: heifs
!image/bmp: bmp dib = image/x-bmp image/x-ms-bmp
!image/tiff: tif tiff = image/x-tiff
!image/vnd.microsoft.icon: ico cur = image/x-icon image/ico
!image/svg+xml: svg = image/svg
!image/jp2: jp2 jpg2 = image/jpeg2000 image/x-jp2
!image/jpx: jpx jpf
!image/jpm: jpm
!image/jxl: jxl
!image/vnd.ms-photo: jxr wdp hdp = image/jxr
!image/vnd.adobe.photoshop: psd psb = image/x-photoshop application/x-photoshop image/psd
!image/x-xcf: xcf
!image/vnd.dwg: dwg = application/acad application/x-dwg application/dwg
!image/vnd.dxf: dxf = application/dxf image/x-dxf
!image/vnd.djvu: djvu djv = image/x-djvu
!image/openraster: ora in application/zip
!application/x-krita: kra in application/zip
!image/x-icns: icns
!image/x-exr: exr
!image/vnd.radiance: hdr
!image/emf: emf = image/x-emf
!image/wmf: wmf = image/x-wmf application/x-msmetafile
!image/x-portable-anymap: pnm ppm pgm pbm
    = image/x-portable-pixmap image/x-portable-graymap image/x-portable-bitmap
!application/dicom: dcm dicom
image/x-adobe-dng: dng in image/tiff
image/x-nikon-nef: nef nrw in image/tiff
image/x-sony-arw: arw sr2 srf in image/tiff
image/x-pentax-pef: pef in image/tiff
image/x-samsung-srw: srw in image/tiff
image/x-hasselblad-3fr: 3fr fff in image/tiff
image/x-epson-erf: erf in image/tiff
!image/x-canon-cr2: cr2
!image/x-canon-cr3: cr3
!image/x-fuji-raf: raf
!image/x-olympus-orf: orf
!image/x-panasonic-rw2: rw2
application/x-sketch: sketch in application/zip
application/x-figma: fig
application/x-procreate: procreate in application/zip
application/x-affinity: afdesign afphoto afpub
application/x-coreldraw: cdr
""",
    "archive": f"""
!application/zip: zip = application/x-zip-compressed application/x-zip multipart/x-zip
!application/gzip: gz tgz svgz emz
    = application/x-gzip application/x-tgz application/x-gtar-compressed
!application/x-tar: tar = application/tar application/x-gtar
!application/vnd.rar: rar = application/x-rar-compressed application/x-rar
!application/x-7z-compressed: 7z
!application/x-bzip2: bz2 tbz2 tbz = application/x-bzip application/bzip2
!application/x-xz: xz txz
!application/zstd: zst tzst = application/x-zstd
!application/x-lz4: lz4
!application/x-lzip: lz
!application/x-lzop: lzo
!application/x-compress: z taz
application/x-lzma: lzma tlz
application/x-brotli: br
application/x-lzh-compressed: lzh lha
application/x-arj: arj
application/x-ace-compressed: ace
application/x-stuffit: sit sitx
application/mac-binhex40: hqx
!application/x-cpio: cpio
!application/x-unix-archive: ar a
!application/vnd.ms-cab-compressed: cab
application/x-iso9660-image: iso = application/vnd.efi.iso application/x-cd-image
application/x-apple-diskimage: dmg
application/vnd.efi.img: img
application/x-virtualbox-vdi: vdi
application/x-vmdk: vmdk
application/x-vhd: vhdx
application/x-qemu-disk: qcow2 qcow
application/x-virtualbox-ova: ova in application/x-tar
!application/java-archive: jar war ear = application/x-java-archive application/x-jar
    in application/zip
!application/vnd.android.package-archive: apk in application/zip
application/x-ios-app: ipa in application/zip
application/x-python-wheel: whl egg in application/zip
application/vnd.nuget.package: nupkg in application/zip
application/x-xpinstall: xpi in application/zip
!application/x-google-chrome-extension: crx = application/x-chrome-extension
!application/vnd.debian.binary-package: deb udeb = application/x-deb application/x-debian-package
!application/x-rpm: rpm = application/x-redhat-package-manager
application/x-msi: msi msp in {OLE}
application/vnd.ms-appx: appx msix in application/zip
application/x-newton-compatible-pkg: pkg
application/vnd.moodle.backup: mbz in application/gzip application/zip
application/vnd.imscc: imscc in application/zip
""",
    "code": CODE,
}
"""Lines of the table by ``resource_type``."""

SHORT = {
    "DOCX": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "XLSX": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "PPTX": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
    "VSDX": "application/vnd.ms-visio.drawing.main+xml",
}
"""Types whose names are too long to be said again."""

# Types of one container, which people call by each other's names and extensions.
FAMILIES = (
    "application/mp4 video/mp4 video/quicktime video/3gpp video/3gpp2 "
    "audio/mp4 audio/3gpp audio/3gpp2",
    "video/webm video/matroska audio/webm audio/matroska",
    "audio/ogg video/ogg application/ogg",
    "video/x-ms-wmv audio/x-ms-wma application/vnd.ms-asf",
    "video/mpeg video/mp2t",
    "image/heic image/heif image/heic-sequence image/heif-sequence",
)
