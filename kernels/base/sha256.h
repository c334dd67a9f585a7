/* SHA-256 (FIPS 180-4), for the hashes that files carry. */
#ifndef ATL_SHA256_H
#define ATL_SHA256_H

#include <stddef.h>
#include <stdint.h>

#define SHA256_SIZE 32
#define SHA256_HEX_SIZE 65 /* 64 digits and the end */

typedef struct Sha256 {
    uint32_t state[8];
    uint64_t bytes;    /* hashed so far */
    uint8_t block[64]; /* the part of a block that is waiting for the rest */
} Sha256;

void sha256_init(Sha256 *s);
void sha256_update(Sha256 *s, const void *data, size_t size);
/* s is used up: sha256_init before the next message. */
void sha256_final(Sha256 *s, uint8_t out[SHA256_SIZE]);
/* All in one. */
void sha256(const void *data, size_t size, uint8_t out[SHA256_SIZE]);
/* Lower-case digits. Returns hex. */
const char *sha256_hex(const uint8_t hash[SHA256_SIZE], char hex[SHA256_HEX_SIZE]);

#endif
