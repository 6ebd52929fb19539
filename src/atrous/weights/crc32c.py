"""CRC-32C (Castagnoli, RFC 3720), the checksum of TensorFlow's files, over whole arrays of words at a time.

A CRC is linear: a word followed by n words of zeros is the word times a fixed matrix of bits. So far-apart words
of the data can be folded onto each other, many at once, until one is left; each multiplication is two look-ups.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint32]

_POLYNOMIAL = 0x82F63B78  # of Castagnoli, lowest power in the highest bit
_ALL_ONES_FIRST = 0x641F6454  # from state 0 this word leads to the state of all ones that a CRC starts with
_MOST_LANES = 1 << 14  # words that are folded at a time; they and the tables fit a core's cache
_MASK_DELTA = 0xA282EAD8


def crc32c(data: bytes | bytearray | memoryview | NDArray[np.uint8]) -> int:
    """Return the CRC-32C of `data`.

    Args:
        data: Bytes of any number; an array is contiguous and one-dimensional.

    Returns:
        An unsigned number of 32 bits, 0xE3069283 for b"123456789".
    """
    content = np.frombuffer(data, np.uint8)
    padding = np.zeros(-len(content) % 4, np.uint8)  # zeros before everything change nothing
    first = np.array([_ALL_ONES_FIRST], "<u4").view(np.uint8)
    words = np.concatenate([padding, first, content]).view("<u4").astype(np.uint32, copy=False)
    return int(_followed_by_zeros(_fold(words), 1)[0]) ^ 0xFFFFFFFF


def masked_crc32c(data: bytes | bytearray | memoryview | NDArray[np.uint8]) -> int:
    """Return the CRC-32C of `data` as TensorFlow and LevelDB store it, rotated and shifted by a constant."""
    value = crc32c(data)
    return ((value >> 15 | value << 17) + _MASK_DELTA) & 0xFFFFFFFF


def _fold(words: Words) -> Words:
    """Return the one word that stands for all of them."""
    count = min(_MOST_LANES, 1 << (len(words) - 1).bit_length())  # a power of two
    start = len(words) % count
    lanes = np.zeros(count, np.uint32)
    if start:
        lanes[-start:] = words[:start]
    for row in words[start:].reshape(-1, count):
        lanes = _followed_by_zeros(lanes, count) ^ row
    while len(lanes) > 1:
        half = len(lanes) // 2
        lanes = _followed_by_zeros(lanes[:half], half) ^ lanes[half:]
    return lanes


def _followed_by_zeros(states: Words, zeros: int) -> Words:
    """Return each state after `zeros` further words of zeros."""
    low, high = _tables(zeros)
    halves = states.astype("<u4", copy=False).view("<u2")
    result: Words = low[halves[0::2]] ^ high[halves[1::2]]
    return result


@lru_cache(maxsize=32)
def _tables(zeros: int) -> tuple[Words, Words]:
    """Return what `zeros` words of zeros, a power of two, make of the low and of the high half of a state."""
    images = _images_of_bits(zeros)
    return _all_sums(images[:16]), _all_sums(images[16:])


def _images_of_bits(zeros: int) -> Words:
    if zeros > 1:
        return _followed_by_zeros(_images_of_bits(zeros // 2), zeros // 2)
    images = np.uint32(1) << np.arange(32, dtype=np.uint32)
    for _ in range(32):
        images = (images >> np.uint32(1)) ^ (images & np.uint32(1)) * np.uint32(_POLYNOMIAL)
    return images


def _all_sums(images: Words) -> Words:
    """Return the image of every number of 16 bits, from those of its bits."""
    table = np.zeros(1, np.uint32)
    for image in images:
        table = np.concatenate([table, table ^ image])
    return table
