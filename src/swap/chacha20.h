/* The ChaCha20 stream cipher.
 * SPDX-License-Identifier: MIT */
#ifndef NEOMM_SWAP_CHACHA20_H
#define NEOMM_SWAP_CHACHA20_H

#include <stddef.h>
#include <stdint.h>

#define NEOMM__CHACHA20_KEY   8u /* words of 32 bits */
#define NEOMM__CHACHA20_NONCE 3u
#define NEOMM__CHACHA20_WORDS 8u /* words of 64 bits: a block */

/* Combines blocks at `in` with the key stream from block number `counter` on, and writes them to
 * `out`, which may be `in`. The same again gives back what was there. A stream, which is a key, a
 * nonce and a block's number, must be used for one text only. */
void neomm__chacha20(const uint32_t *key, const uint32_t *nonce, uint32_t counter,
                     const uint64_t *in, uint64_t *out, size_t blocks);

/* Overwrites what must not be found later, whatever the compiler thinks of it. */
void neomm__wipe(void *memory, size_t size);

#endif
