"""Makes small documents of each type, as their programs write them."""

import io
import json
import zipfile
from collections.abc import Mapping
from email.message import EmailMessage

_REL = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006"
_WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
_SLIDES = "http://schemas.openxmlformats.org/presentationml/2006/main"
_DRAWING = "http://schemas.openxmlformats.org/drawingml/2006/main"
_KINDS = "application/vnd.openxmlformats-officedocument"


def packed(files: Mapping[str, str | bytes]) -> bytes:
    """Return a ZIP file."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


def _office(main: str, kind: str, files: Mapping[str, str | bytes]) -> bytes:
    types = f'<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>{kind}'
    relation = f'<Relationship Id="rId1" Type="{_REL}/officeDocument" Target="{main}"/>'
    head = {
        "[Content_Types].xml": f'<Types xmlns="{_PACKAGE}/content-types">{types}</Types>',
        "_rels/.rels": f'<Relationships xmlns="{_PACKAGE}/relationships">{relation}</Relationships>',
    }
    return packed({**head, **files})


def docx(body: str, doctype: str = "") -> bytes:
    """Return a Word document. body: XML inside w:body. doctype: XML before the root element."""
    kind = f'<Override PartName="/word/document.xml" ContentType="{_KINDS}.wordprocessingml.document.main+xml"/>'
    xml = f'{doctype}<w:document xmlns:w="{_WORD}"><w:body>{body}</w:body></w:document>'
    return _office("word/document.xml", kind, {"word/document.xml": xml})


def paragraph(text: str) -> str:
    """Return a paragraph of a Word document."""
    return f"<w:p><w:r><w:t>{text}</w:t></w:r></w:p>"


def pptx(*slides: str) -> bytes:
    """Return slides with one text each."""
    numbers = range(1, len(slides) + 1)
    kinds = "".join(
        f'<Override PartName="/ppt/slides/slide{n}.xml" ContentType="{_KINDS}.presentationml.slide+xml"/>'
        for n in numbers
    )
    kinds += f'<Override PartName="/ppt/presentation.xml" ContentType="{_KINDS}.presentationml.presentation.main+xml"/>'
    relations = "".join(
        f'<Relationship Id="rId{n}" Type="{_REL}/slide" Target="slides/slide{n}.xml"/>' for n in numbers
    )
    ids = "".join(f'<p:sldId id="{255 + n}" r:id="rId{n}"/>' for n in numbers)
    files = {
        "ppt/presentation.xml": f'<p:presentation xmlns:p="{_SLIDES}" xmlns:r="{_REL}"><p:sldIdLst>{ids}'
        "</p:sldIdLst></p:presentation>",
        "ppt/_rels/presentation.xml.rels": f'<Relationships xmlns="{_PACKAGE}/relationships">{relations}'
        "</Relationships>",
    }
    for n, text in enumerate(slides, 1):
        shape = "".join(
            f'<p:sp><p:nvSpPr><p:cNvPr id="{at}" name="Text"/><p:cNvSpPr/><p:nvPr/></p:nvSpPr><p:spPr/><p:txBody>'
            f"<a:bodyPr/><a:p><a:r><a:t>{each}</a:t></a:r></a:p></p:txBody></p:sp>"
            for at, each in enumerate((f"Slide {n}", text), 2)
        )
        files[f"ppt/slides/slide{n}.xml"] = (
            f'<p:sld xmlns:p="{_SLIDES}" xmlns:a="{_DRAWING}"><p:cSld><p:spTree><p:nvGrpSpPr/><p:grpSpPr/>{shape}'
            "</p:spTree></p:cSld></p:sld>"
        )
    return _office("ppt/presentation.xml", kinds, files)


def epub(chapter: str) -> bytes:
    """Return a book with one chapter. chapter: XHTML inside body."""
    container = (
        '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container" version="1.0"><rootfiles>'
        '<rootfile full-path="book.opf" media-type="application/oebps-package+xml"/></rootfiles></container>'
    )
    book = (
        '<package xmlns="http://www.idpf.org/2007/opf" version="3.0" unique-identifier="id"><metadata '
        'xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:identifier id="id">x</dc:identifier><dc:title>Book</dc:title>'
        '<dc:language>en</dc:language></metadata><manifest><item id="c" href="c.xhtml" '
        'media-type="application/xhtml+xml"/></manifest><spine><itemref idref="c"/></spine></package>'
    )
    page = f'<html xmlns="http://www.w3.org/1999/xhtml"><head><title>C</title></head><body>{chapter}</body></html>'
    return packed(
        {
            "mimetype": "application/epub+zip",
            "META-INF/container.xml": container,
            "book.opf": book,
            "c.xhtml": page,
        }
    )


def odt(text: str) -> bytes:
    """Return an OpenDocument text with one paragraph."""
    names = "urn:oasis:names:tc:opendocument:xmlns"
    content = (
        f'<office:document-content xmlns:office="{names}:office:1.0" xmlns:text="{names}:text:1.0"><office:body>'
        f"<office:text><text:p>{text}</text:p></office:text></office:body></office:document-content>"
    )
    return packed({"mimetype": "application/vnd.oasis.opendocument.text", "content.xml": content})


def eml(subject: str, text: str) -> bytes:
    """Return a mail with a text, an HTML alternative and an attachment."""
    mail = EmailMessage()
    mail["Subject"], mail["From"], mail["To"] = subject, "a@example.com", "b@example.com"
    mail.set_content(text)
    mail.add_alternative(f"<p>{text}</p>", subtype="html")
    mail.add_attachment(b"PK\x03\x04" + bytes(100), maintype="application", subtype="zip", filename="x.zip")
    return bytes(mail)


def ipynb(*cells: object) -> bytes:
    """Return a notebook of version 4."""
    metadata = {"language_info": {"name": "python"}}
    return json.dumps({"cells": cells, "metadata": metadata, "nbformat": 4}, ensure_ascii=False).encode()


def rtf(text: str) -> bytes:
    """Return a rich text with one paragraph."""
    return b"{\\rtf1\\ansi\\deff0 {\\fonttbl{\\f0 Times;}}\\f0 " + text.encode("ascii") + b"\\par}"
