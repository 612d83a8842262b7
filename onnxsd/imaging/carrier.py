"""Text inside an image file: PNG text chunks, and EXIF's UserComment in JPEG and WebP."""

from __future__ import annotations

import enum
import io
from pathlib import Path
from typing import Any

from PIL import ExifTags, Image, PngImagePlugin, UnidentifiedImageError

from onnxsd.errors import BadInputError, ResourceError

_KEY = "parameters"
_USER_COMMENT = ExifTags.Base.UserComment
_UNICODE = b"UNICODE\0"
_ASCII = b"ASCII\0\0\0"
# A JPEG segment holds 65,533 bytes, of which EXIF takes its own headers: enough for 32,000 characters.
_JPEG_EXIF_LIMIT_BYTES = 65_533


class ImageFormat(enum.Enum):
    """A file format for images; the value is what `--format` takes."""

    PNG = "png"
    JPEG = "jpeg"
    WEBP = "webp"

    @property
    def suffixes(self) -> tuple[str, ...]:
        """File name endings, the usual one first."""
        return {"png": (".png",), "jpeg": (".jpg", ".jpeg"), "webp": (".webp",)}[self.value]


def encode(image: Image.Image, image_format: ImageFormat, text: str | None) -> bytes:
    """The bytes of an image file that carries `text`."""
    options: dict[str, Any] = {}
    if text is not None:
        # A prompt from a command line may hold bytes that are no text (lone surrogates): keep them readable.
        text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    if image_format is ImageFormat.PNG:
        options["pnginfo"] = _png_text(text)
    else:
        options["quality"] = 95
        options["exif"] = _exif(text, image_format) if text is not None else b""
    if image_format is ImageFormat.JPEG:
        options["subsampling"] = "4:4:4"  # 4:2:0 smears the saturated edges that generated images are full of
    buffer = io.BytesIO()
    try:
        image.save(buffer, format=image_format.name, **options)
    except (OSError, ValueError) as error:  # PIL's for a size or mode that the format does not have
        width, height = image.size
        raise BadInputError(
            f"cannot write {width}x{height} {image.mode} as {image_format.value}: {error}",
            hint="use --format png",
        ) from error
    return buffer.getvalue()


def read_text(path: Path) -> str:
    """The `parameters` text of an image file, ours or another program's."""
    try:
        with Image.open(path) as image:
            image.load()  # a PNG's text may stand behind its pixels
            comment = image.getexif().get_ifd(ExifTags.IFD.Exif).get(_USER_COMMENT)
            text = image.info.get(_KEY) or (_decoded(comment) if comment else None)
    except UnidentifiedImageError as error:
        raise BadInputError(f"{path} is not an image that can be read") from error
    except (OSError, SyntaxError, ValueError) as error:  # PIL's names for a missing and for a broken file
        missing = isinstance(error, OSError) and error.errno is not None
        kind = ResourceError if missing and not isinstance(error, FileNotFoundError) else BadInputError
        raise kind(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
    if not text:
        raise BadInputError(
            f"{path} carries no `{_KEY}` text",
            hint="it was made by a program that writes none, or a converter or web site removed it",
        )
    return str(text)


def _png_text(text: str | None) -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    if text is not None:
        info.add_text(_KEY, text)  # tEXt where the text is Latin-1, else iTXt
    return info


def _exif(text: str, image_format: ImageFormat) -> bytes:
    exif = Image.Exif()
    # Big-endian whatever the file's own byte order: so do the programs that read this.
    # Set whole: what is put into get_ifd()'s result is lost by Pillow 11.0 and older.
    exif[ExifTags.IFD.Exif] = {_USER_COMMENT: _UNICODE + text.encode("utf-16-be")}
    content: bytes = exif.tobytes()
    if image_format is ImageFormat.JPEG and len(content) > _JPEG_EXIF_LIMIT_BYTES:
        raise BadInputError(
            f"prompts and settings take {len(content)} bytes, and a JPEG carries {_JPEG_EXIF_LIMIT_BYTES}",
            hint="use --format png or webp",
        )
    return content


def _decoded(comment: bytes | str) -> str:
    if isinstance(comment, str):
        return comment
    if comment.startswith(_ASCII):
        return comment[len(_ASCII) :].decode("ascii", "replace")
    if not comment.startswith(_UNICODE):
        return comment.decode("utf-8", "replace")
    coded = comment[len(_UNICODE) :]
    # Writers differ in byte order and few mark it; a text of this custom holds "Steps" in one of the two.
    little = coded.decode("utf-16-le", "replace")
    return little if "Steps" in little else coded.decode("utf-16-be", "replace")
