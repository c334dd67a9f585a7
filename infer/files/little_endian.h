/* Numbers in files, lowest byte first, at any address. */
#ifndef ATL_LITTLE_ENDIAN_H
#define ATL_LITTLE_ENDIAN_H

#include <stdint.h>

static inline uint64_t little_endian(const uint8_t *p, unsigned bytes)
{
    uint64_t v = 0;
    for (unsigned i = 0; i < bytes; i++)
        v |= (uint64_t)p[i] << (8 * i);
    return v;
}
static inline uint16_t le16(const uint8_t *p)
{
    return (uint16_t)little_endian(p, 2);
}
static inline uint32_t le32(const uint8_t *p)
{
    return (uint32_t)little_endian(p, 4);
}
static inline uint64_t le64(const uint8_t *p)
{
    return little_endian(p, 8);
}

#endif
