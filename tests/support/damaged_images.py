"""PNG and JPEG files, and what may happen to them on the way."""

import io
import struct
import zlib

from PIL import Image


def good_images(random):
    """Small files of all kinds that Pillow writes: grey, colour, palette, alpha, progressive..."""
    files = []
    for mode in ('1', 'L', 'LA', 'P', 'RGB', 'RGBA', 'I;16'):
        files.append(_encoded(_picture(random).convert(mode), 'PNG', exif=_exif(random)))
    for mode in ('L', 'RGB', 'CMYK'):
        for options in ({}, {'progressive': True}, {'restart_marker_blocks': 2}):
            picture = _picture(random).convert(mode)
            files.append(_encoded(picture, 'JPEG', exif=_exif(random), **options))
    return files


def damage(random, file):
    """The file after one to three of the things that may happen to it."""
    for _ in range(random.randint(1, 3)):
        file = random.choice([_bits, _cut, _inserted, _parts, _parts, _length, _marker])(
            random, file
        )
    return file


def _picture(random):
    size = random.randint(1, 40), random.randint(1, 40)
    return Image.frombytes('RGB', (4, 3), random.randbytes(36)).resize(size)


def _encoded(picture, kind, **options):
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def _exif(random):
    exif = Image.Exif()
    exif[0x0112] = random.randint(0, 9)
    return exif


def _bits(random, file):
    """A few bits are flipped."""
    spoiled = bytearray(file)
    for _ in range(random.randint(1, 4)):
        if spoiled:
            spoiled[random.randrange(len(spoiled))] ^= 1 << random.randrange(8)
    return bytes(spoiled)


def _cut(random, file):
    """A piece is missing, in the middle or at the end; the file's end may be put behind it."""
    start = random.randint(0, len(file))
    end = random.choice([len(file), random.randint(start, len(file))])
    tail = file[-random.choice([2, 12]) :] if end == len(file) and random.random() < 0.5 else b''
    return file[:start] + file[end:] + tail


def _inserted(random, file):
    """Bytes too many."""
    place = random.randint(0, len(file))
    junk = random.choice([random.randbytes(random.randint(1, 50)), b'\xff' * 30, b'\x00' * 300])
    return file[:place] + junk + file[place:]


def _split(file):
    """The chunks of a PNG or segments of a JPEG; a scan's data are part of its segment."""
    is_png = file[:4] == b'\x89PNG'
    place = 8 if is_png else 2
    parts = [file[:place]]
    while place < len(file):
        if is_png:
            end = place + 12 + int.from_bytes(file[place : place + 4], 'big')
        elif file[place + 1 : place + 2] == b'\xda':
            end = len(file) - 2
        else:
            end = place + 2 + int.from_bytes(file[place + 2 : place + 4], 'big')
        end = max(end, place + 1)
        parts.append(file[place:end])
        place = end
    return parts


def _parts(random, file):
    """A chunk or segment is doubled, removed, moved or repeated many times."""
    parts = _split(file)
    place, other = random.randrange(len(parts)), random.randrange(len(parts))
    what = random.randrange(4)
    if what == 0:
        parts.insert(other, parts[place])
    elif what == 1:
        del parts[place]
    elif what == 2:
        parts[place], parts[other] = parts[other], parts[place]
    else:
        parts[place] *= random.choice([2, 100, 2000])
    return b''.join(parts)


def _length(random, file):
    """A chunk or segment says another length than it has; a PNG's may have the right CRC."""
    parts = _split(file)
    place = random.randrange(len(parts))
    part = parts[place]
    is_png = file[:4] == b'\x89PNG'
    if is_png and len(part) >= 12:
        length = random.choice(
            [0, 1, len(part), 2**31 - 1, 2**31, 2**32 - 1, random.getrandbits(12)]
        )
        if random.random() < 0.5:
            content = part[8:-4][: max(length, 0)][:-1]
            crc = zlib.crc32(part[4:8] + content)
            part = struct.pack('>I', len(content)) + part[4:8] + content + struct.pack('>I', crc)
        else:
            part = struct.pack('>I', length) + part[4:]
    elif not is_png and len(part) >= 4:
        length = random.choice([0, 1, 2, 3, 65535, random.getrandbits(10)])
        part = part[:2] + struct.pack('>H', length) + part[4:]
    return b''.join([*parts[:place], part, *parts[place + 1 :]])


def _marker(random, file):
    """A chunk or segment has another name, or a field of its content another value."""
    parts = _split(file)
    place = random.randrange(len(parts))
    part = bytearray(parts[place])
    start = 4 if file[:4] == b'\x89PNG' else 1
    for at in range(start, min(len(part), start + random.choice([1, 4, 20]))):
        if random.random() < 0.5:
            part[at] = random.choice([0, 1, 0xFF, 0xD9, 0xDA, random.getrandbits(8)])
    if file[:4] == b'\x89PNG' and len(part) >= 12 and random.random() < 0.7:
        part[-4:] = struct.pack('>I', zlib.crc32(part[4:-4]))
    return b''.join([*parts[:place], part, *parts[place + 1 :]])
