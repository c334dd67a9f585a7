"""Writes Atelier's dataset file (docs/dataset-file.md) with h5py: for pictures that are made, not found in a folder.

As `atelier data build` does: HDF5's format of version 1.10, in which every structure has its check sum, and strings of
fixed length. Damage in h5py's default format can crash the HDF5 library that reads it.
"""
import hashlib

import h5py
import numpy as np


def fixed(text):
    """A string of fixed length, as an attribute or one of many."""
    raw = text.encode('utf8')
    return np.array(raw, h5py.string_dtype('utf-8', max(1, len(raw))))


def write(path, pictures, source):
    """pictures: [(file name, encoded bytes, width, height, caption)]; source: what the file says it came from."""
    n = len(pictures)
    names, encoded, widths, heights, captions = zip(*pictures)
    lengths = np.array([len(e) for e in encoded], 'u8')
    texts = [c.encode('utf8') for c in captions]
    ends = np.cumsum([len(t) for t in texts], dtype='u8')
    with h5py.File(path, 'w', libver='v110') as f:
        f.attrs['format_version'] = np.int32(1)
        f.attrs['tool'], f.attrs['source'] = fixed('scripts/builtin'), fixed(source)
        f.attrs['repeats'] = np.int32(1)
        images, text = f.create_group('images'), f.create_group('captions')
        images['data'] = np.frombuffer(b''.join(encoded), 'u1')
        images['offset'] = np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype('u8')
        images['length'] = lengths
        images['width'], images['height'] = np.array(widths, 'u4'), np.array(heights, 'u4')
        images['orientation'] = np.ones(n, 'u1')
        images['sha256'] = np.frombuffer(b''.join(hashlib.sha256(e).digest() for e in encoded), 'u1').reshape(n, 32)
        raw = [name.encode('utf8') for name in names]
        images.create_dataset('name', data=np.array(raw, h5py.string_dtype('utf-8', max(map(len, raw)))))
        text['text'] = np.frombuffer(b''.join(texts), 'u1')
        text['offset'] = np.concatenate([[0], ends]).astype('u8')
