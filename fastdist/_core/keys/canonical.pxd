# Canonical bytes of a key: the form in which keys are hashed, compared and sent.
from libc.stdint cimport uint8_t

cdef enum:
    MAX_KEY_DEPTH = 16
    MAX_KEY_LENGTH = 65536

cpdef bytes encode_key(object key)
cpdef object decode_key(bytes data)

# Decodes a key from borrowed bytes; ValueError when they are no canonical key.
cdef object decode_key_at(const uint8_t* data, size_t length)

# The part of a canonical key by which tasks are grouped is key[start:end]: "inc" of "inc-<hash>".
# start == end when the key has no name in it (a number, or nothing but a hash).
cdef void key_prefix(const uint8_t* key, size_t length, size_t* start, size_t* end) noexcept nogil
