/* The ChaCha20 stream cipher.
 * SPDX-License-Identifier: MIT
 *
 * As RFC 8439, sections 2.1 to 2.4, has it: 20 rounds, 96 bits of nonce, 32 bits of block counter,
 * numbers in the byte order of x86. Additions, exclusive ors and rotations by constants are all
 * that it is made of: no table, no branch and no address depends on a key or a text, so it takes
 * the same time for all of them.
 *
 *   state   c c c c      c: constants      a block of the stream is the state after the rounds,
 *           k k k k      k: key            plus the state before
 *           k k k k      n: block number
 *           n o o o      o: nonce
 */
#include "chacha20.h"

#define STATE  16u
#define DOUBLE 10u /* rounds of columns, then diagonals */

static inline uint32_t rotate(uint32_t x, unsigned bits)
{
    return x << bits | x >> (32 - bits);
}

static inline void quarter(uint32_t *a, uint32_t *b, uint32_t *c, uint32_t *d)
{
    *a += *b;
    *d = rotate(*d ^ *a, 16);
    *c += *d;
    *b = rotate(*b ^ *c, 12);
    *a += *b;
    *d = rotate(*d ^ *a, 8);
    *c += *d;
    *b = rotate(*b ^ *c, 7);
}

static void rounds(uint32_t *x)
{
    for (unsigned i = 0; i < DOUBLE; i++) {
        quarter(&x[0], &x[4], &x[8], &x[12]);
        quarter(&x[1], &x[5], &x[9], &x[13]);
        quarter(&x[2], &x[6], &x[10], &x[14]);
        quarter(&x[3], &x[7], &x[11], &x[15]);
        quarter(&x[0], &x[5], &x[10], &x[15]);
        quarter(&x[1], &x[6], &x[11], &x[12]);
        quarter(&x[2], &x[7], &x[8], &x[13]);
        quarter(&x[3], &x[4], &x[9], &x[14]);
    }
}

void neomm__wipe(void *memory, size_t size)
{
    volatile uint8_t *byte = memory;
    for (size_t i = 0; i < size; i++)
        byte[i] = 0;
}

void neomm__chacha20(const uint32_t *key, const uint32_t *nonce, uint32_t counter,
                     const uint64_t *in, uint64_t *out, size_t blocks)
{
    uint32_t state[STATE] = {0x61707865, 0x3320646e, 0x79622d32, 0x6b206574}, x[STATE];
    for (unsigned i = 0; i < NEOMM__CHACHA20_KEY; i++)
        state[4 + i] = key[i];
    for (unsigned i = 0; i < NEOMM__CHACHA20_NONCE; i++)
        state[13 + i] = nonce[i];
    for (size_t block = 0; block < blocks; block++) {
        state[12] = counter + (uint32_t)block;
        for (unsigned i = 0; i < STATE; i++)
            x[i] = state[i];
        rounds(x);
        for (unsigned i = 0; i < STATE; i += 2) {
            uint64_t high = x[i + 1] + state[i + 1];
            *out++ = *in++ ^ ((uint32_t)(x[i] + state[i]) | high << 32);
        }
    }
    neomm__wipe(state, sizeof(state));
    neomm__wipe(x, sizeof(x));
}
