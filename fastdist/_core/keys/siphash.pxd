# SipHash over C bytes: SipHash-1-3 for the key table, SipHash-2-4-128 for deterministic task keys.
# Inline functions only; there is no module behind this file.
from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memcpy


cdef inline uint64_t rotate_left(uint64_t value, int bits) noexcept nogil:
    return (value << bits) | (value >> (64 - bits))


cdef inline void sip_round(uint64_t* v) noexcept nogil:
    v[0] += v[1]
    v[2] += v[3]
    v[1] = rotate_left(v[1], 13) ^ v[0]
    v[3] = rotate_left(v[3], 16) ^ v[2]
    v[0] = rotate_left(v[0], 32)
    v[2] += v[1]
    v[0] += v[3]
    v[1] = rotate_left(v[1], 17) ^ v[2]
    v[3] = rotate_left(v[3], 21) ^ v[0]
    v[2] = rotate_left(v[2], 32)


cdef inline void sip_start(uint64_t* v, uint64_t seed0, uint64_t seed1) noexcept nogil:
    v[0] = <uint64_t>0x736F6D6570736575 ^ seed0
    v[1] = <uint64_t>0x646F72616E646F6D ^ seed1
    v[2] = <uint64_t>0x6C7967656E657261 ^ seed0
    v[3] = <uint64_t>0x7465646279746573 ^ seed1


# The bytes after the last whole word, with the length of the message in the top byte.
cdef inline uint64_t last_word(const uint8_t* data, size_t length) noexcept nogil:
    cdef uint64_t word = <uint64_t>(length & 0xFF) << 56
    cdef size_t rest = length & 7
    cdef size_t i
    data += length - rest
    for i in range(rest):
        word |= <uint64_t>data[i] << (8 * i)
    return word


cdef inline uint64_t siphash_1_3(
    const uint8_t* data, size_t length, uint64_t seed0, uint64_t seed1
) noexcept nogil:
    cdef uint64_t v[4]
    cdef uint64_t word
    cdef size_t position
    sip_start(v, seed0, seed1)
    for position in range(0, length & ~<size_t>7, 8):
        memcpy(&word, data + position, 8)
        v[3] ^= word
        sip_round(v)
        v[0] ^= word
    word = last_word(data, length)
    v[3] ^= word
    sip_round(v)
    v[0] ^= word
    v[2] ^= 0xFF
    sip_round(v)
    sip_round(v)
    sip_round(v)
    return v[0] ^ v[1] ^ v[2] ^ v[3]


cdef inline void siphash_2_4_128(
    const uint8_t* data, size_t length, uint64_t seed0, uint64_t seed1, uint64_t* digest
) noexcept nogil:
    cdef uint64_t v[4]
    cdef uint64_t word
    cdef size_t position
    cdef int _
    sip_start(v, seed0, seed1)
    v[1] ^= 0xEE
    for position in range(0, length & ~<size_t>7, 8):
        memcpy(&word, data + position, 8)
        v[3] ^= word
        sip_round(v)
        sip_round(v)
        v[0] ^= word
    word = last_word(data, length)
    v[3] ^= word
    sip_round(v)
    sip_round(v)
    v[0] ^= word
    v[2] ^= 0xEE
    for _ in range(4):
        sip_round(v)
    digest[0] = v[0] ^ v[1] ^ v[2] ^ v[3]
    v[1] ^= 0xDD
    for _ in range(4):
        sip_round(v)
    digest[1] = v[0] ^ v[1] ^ v[2] ^ v[3]
