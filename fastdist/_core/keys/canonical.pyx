"""Canonical bytes of a key.

A key is a str, bytes, int, float or a tuple of keys. Its canonical form is a tag byte and then `s` utf-8, `b` the
bytes, `i` the decimal digits, `f` eight bytes of a big-endian double, or `t` and for each item its length (u32) and
its canonical form. Equal keys of equal types have equal bytes on every machine. May import nothing.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy
from libcpp.vector cimport vector

cdef extern from "Python.h":
    const char* PyUnicode_AsUTF8AndSize(object text, Py_ssize_t* size) except NULL

cdef enum:
    MAX_DIGITS = 4300       # beyond this CPython refuses to convert text to an int


# Encoding

cpdef bytes encode_key(object key):
    """The canonical bytes of a key.

    Parameters
    ----------
    key : str, bytes, int, float or a tuple of those
        Tuples may be nested up to 16 deep.

    Raises
    ------
    TypeError
        If the key, or something inside it, has another type. A bool is not a key.
    ValueError
        If the key is nested too deep, is longer than 64 KiB, or is text that utf-8 cannot express.

    Examples
    --------
    >>> encode_key("x")
    b'sx'
    >>> encode_key(("x", 1))
    b't\\x02\\x00\\x00\\x00sx\\x02\\x00\\x00\\x00i1'
    """
    cdef const char* text
    cdef Py_ssize_t size
    cdef bytes data
    cdef vector[uint8_t] out
    if type(key) is str:
        text = utf8_of(key, &size)
        if size >= MAX_KEY_LENGTH:
            raise_too_long(size + 1)
        data = PyBytes_FromStringAndSize(NULL, size + 1)
        PyBytes_AS_STRING(data)[0] = c"s"
        memcpy(PyBytes_AS_STRING(data) + 1, text, size)
        return data
    append_key(&out, key, key, 0)
    return PyBytes_FromStringAndSize(<const char*>out.data(), out.size())


cdef const char* utf8_of(object text, Py_ssize_t* size) except NULL:
    try:
        return PyUnicode_AsUTF8AndSize(text, size)
    except UnicodeEncodeError as error:
        raise ValueError(f"the key {text!r} holds a lone surrogate, which utf-8 cannot express") from error


cdef int raise_too_long(size_t length) except -1:
    raise ValueError(f"a key of {length} bytes is too long: at most {MAX_KEY_LENGTH} bytes are allowed")


cdef int append_bytes(vector[uint8_t]* out, const void* data, size_t length) except -1:
    cdef size_t old = out.size()
    if old + length > MAX_KEY_LENGTH:
        raise_too_long(old + length)
    out.resize(old + length)
    memcpy(out.data() + old, data, length)
    return 0


cdef int append_key(vector[uint8_t]* out, object key, object whole, int depth) except -1:
    cdef const char* text
    cdef Py_ssize_t size
    cdef bytes raw
    if isinstance(key, str):
        text = utf8_of(key, &size)
        append_bytes(out, b"s", 1)
        append_bytes(out, text, size)
    elif isinstance(key, bytes):
        append_bytes(out, b"b", 1)
        append_bytes(out, PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key))
    elif isinstance(key, int) and not isinstance(key, bool):
        if int.bit_length(key) > 3 * MAX_DIGITS:
            raise ValueError(f"an int of {int.bit_length(key)} bits is too large for a key")
        raw = int.__repr__(key).encode("ascii")
        append_bytes(out, b"i", 1)
        append_bytes(out, PyBytes_AS_STRING(raw), PyBytes_GET_SIZE(raw))
    elif isinstance(key, float):
        append_bytes(out, b"f", 1)
        append_double(out, <double>key)
    elif isinstance(key, tuple):
        append_tuple(out, <tuple>key, whole, depth)
    else:
        raise_not_a_key(key, whole)
    return 0


cdef int append_double(vector[uint8_t]* out, double number) except -1:
    cdef uint64_t bits
    cdef uint8_t raw[8]
    cdef int i
    memcpy(&bits, &number, 8)
    for i in range(8):
        raw[i] = <uint8_t>(bits >> (56 - 8 * i))
    return append_bytes(out, raw, 8)


cdef int append_tuple(vector[uint8_t]* out, tuple key, object whole, int depth) except -1:
    cdef size_t at
    cdef uint32_t length = 0
    if depth >= MAX_KEY_DEPTH:
        raise ValueError(f"a key is nested more than {MAX_KEY_DEPTH} tuples deep")
    append_bytes(out, b"t", 1)
    for item in key:
        at = out.size()
        length = 0
        append_bytes(out, &length, 4)
        append_key(out, item, whole, depth + 1)
        length = <uint32_t>(out.size() - at - 4)
        memcpy(out.data() + at, &length, 4)
    return 0


cdef int raise_not_a_key(object part, object whole) except -1:
    where = "" if part is whole else f" inside {whole!r:.200}"
    hint = "; use an int instead of a bool" if isinstance(part, bool) else ""
    raise TypeError(
        f"{part!r:.200}{where} is a {type(part).__name__}, which cannot be a key: "
        f"keys are str, bytes, int, float and tuples of those{hint}"
    )


# Decoding

cpdef object decode_key(bytes data):
    """The key that has these canonical bytes.

    Raises
    ------
    ValueError
        If the bytes are not what `encode_key` gives for some key.
    """
    return decode_key_at(<const uint8_t*>PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))


cdef object decode_key_at(const uint8_t* data, size_t length):
    if length > MAX_KEY_LENGTH:
        raise_too_long(length)
    return decode_part(data, length, 0)


cdef object decode_part(const uint8_t* data, size_t length, int depth):
    cdef double number
    if length == 0:
        raise ValueError("a canonical key is empty")
    if data[0] == c"s":
        return PyUnicode_DecodeUTF8(<const char*>data + 1, length - 1, NULL)
    if data[0] == c"b":
        return PyBytes_FromStringAndSize(<const char*>data + 1, length - 1)
    if data[0] == c"i":
        return decode_int(data + 1, length - 1)
    if data[0] == c"f":
        if length != 9:
            raise ValueError(f"a float in a canonical key has {length - 1} bytes instead of 8")
        number = read_double(data + 1)
        return number
    if data[0] == c"t":
        return decode_tuple(data + 1, length - 1, depth)
    raise ValueError(f"a canonical key starts with the unknown tag {data[0]}")


cdef double read_double(const uint8_t* data) noexcept nogil:
    cdef uint64_t bits = 0
    cdef double number
    cdef int i
    for i in range(8):
        bits = (bits << 8) | data[i]
    memcpy(&number, &bits, 8)
    return number


cdef object decode_int(const uint8_t* data, size_t length):
    cdef size_t first = 1 if length and data[0] == c"-" else 0
    cdef size_t i
    cdef bint good = first < length <= MAX_DIGITS + first
    if good and data[first] == c"0":
        good = length == 1
    for i in range(first, length):
        good = good and c"0" <= data[i] <= c"9"
    if not good:
        raise ValueError("an int in a canonical key is not written in canonical decimal digits")
    return int(PyBytes_FromStringAndSize(<const char*>data, length))


cdef object decode_tuple(const uint8_t* data, size_t length, int depth):
    cdef uint32_t size
    cdef list items = []
    if depth >= MAX_KEY_DEPTH:
        raise ValueError(f"a canonical key is nested more than {MAX_KEY_DEPTH} tuples deep")
    while length:
        if length < 4:
            raise ValueError("a tuple in a canonical key ends inside a length")
        memcpy(&size, data, 4)
        if size > length - 4:
            raise ValueError("an item of a tuple in a canonical key reaches beyond its end")
        items.append(decode_part(data + 4, size, depth + 1))
        data += 4 + size
        length -= 4 + size
    return tuple(items)


# Prefixes

cdef bint is_digit(uint8_t letter) noexcept nogil:
    return c"0" <= letter <= c"9"


cdef bint is_hex(uint8_t letter) noexcept nogil:
    return is_digit(letter) or c"a" <= letter <= c"f" or c"A" <= letter <= c"F"


cdef bint all_hex(const uint8_t* data, size_t start, size_t end) noexcept nogil:
    while start < end and is_hex(data[start]):
        start += 1
    return start == end


cdef bint all_digits(const uint8_t* data, size_t start, size_t end) noexcept nogil:
    while start < end and is_digit(data[start]):
        start += 1
    return start == end


# Whether the name ends in "-" and a uuid with its dashes (8-4-4-4-12).
cdef bint ends_in_uuid(const uint8_t* data, size_t start, size_t end) noexcept nogil:
    cdef const uint8_t* uuid
    if end - start < 37:
        return False
    uuid = data + end - 36
    if not (data[end - 37] == c"-" and uuid[8] == c"-" and uuid[13] == c"-" and uuid[18] == c"-" and uuid[23] == c"-"):
        return False
    return (
        all_hex(uuid, 0, 8) and all_hex(uuid, 9, 13) and all_hex(uuid, 14, 18)
        and all_hex(uuid, 19, 23) and all_hex(uuid, 24, 36)
    )


# Where the name ends once its trailing hashes, numbers and uuids are cut off.
cdef size_t end_of_name(const uint8_t* data, size_t start, size_t end) noexcept nogil:
    cdef size_t dash
    while end > start:
        if ends_in_uuid(data, start, end):
            end -= 37
            continue
        dash = end
        while dash > start and data[dash - 1] != c"-":
            dash -= 1
        # dash is now one past the last "-", or the start of the whole name.
        if not (all_digits(data, dash, end) or (end - dash >= 8 and all_hex(data, dash, end))):
            return end
        if dash == start:
            return start
        end = dash - 1
    return end


cdef void key_prefix(const uint8_t* key, size_t length, size_t* start, size_t* end) noexcept nogil:
    cdef size_t begin = 0
    cdef size_t stop = length
    cdef size_t quote
    cdef uint32_t size
    cdef int depth = 0
    while stop > begin and key[begin] == c"t" and stop - begin >= 5 and depth < MAX_KEY_DEPTH:
        memcpy(&size, key + begin + 1, 4)
        begin += 5
        if size > stop - begin:
            break
        stop = begin + size
        depth += 1
    if stop <= begin or (key[begin] != c"s" and key[begin] != c"b"):
        start[0] = begin
        end[0] = begin
        return
    begin += 1
    # The text of a tuple, "('x-<hash>', 0)": look inside the first quotes.
    if stop - begin > 2 and key[begin] == c"(" and (key[begin + 1] == c"'" or key[begin + 1] == c'"'):
        quote = begin + 2
        while quote < stop and key[quote] != key[begin + 1]:
            quote += 1
        begin += 2
        stop = quote
    start[0] = begin
    end[0] = end_of_name(key, begin, stop)


def prefix_of(bytes data not None) -> str:
    """The name by which the task with this canonical key is grouped; empty if the key has none.

    >>> prefix_of(encode_key("a-b-0123456789abcdef0123456789abcdef"))
    'a-b'
    """
    cdef size_t start, end
    key_prefix(<const uint8_t*>PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), &start, &end)
    return data[start:end].decode("utf-8", "replace")
