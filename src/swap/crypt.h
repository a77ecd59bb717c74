/* Encryption of what goes to swap devices.
 * SPDX-License-Identifier: MIT */
#ifndef NEOMM_SWAP_CRYPT_H
#define NEOMM_SWAP_CRYPT_H

#include "swap/chacha20.h"
#include "swap/swap_priv.h"

#define NEOMM__CRYPT_SETS 4u /* batches that are written encrypted at a time */
#define NEOMM__CRYPT_NONE UINT32_MAX

/* The layer's, when it encrypts; in a frame of its own. */
struct neomm__crypt {
    uint64_t sequence; /* number of the next page to encrypt; first, where it is aligned */
    uint32_t key[NEOMM__CHACHA20_KEY]; /* constant */
    uint32_t sets;                     /* constant */
    uint32_t free;                     /* a futex: bit n: nobody has set n */
    neomm_frame_t frame;               /* of this structure */
    neomm_frame_t set[NEOMM__CRYPT_SETS][NEOMM_POLICY_BATCH];
};

_Static_assert(sizeof(struct neomm__crypt) <= NEOMM_PAGE_SIZE, "its state is one frame");

/* Frames for the encrypted pages of a batch: those of a set, which the first one takes. */
struct neomm__crypt_batch {
    uint32_t set, used;
};

static inline void neomm__crypt_batch_init(struct neomm__crypt_batch *batch)
{
    *batch = (struct neomm__crypt_batch){NEOMM__CRYPT_NONE, 0};
}

/* If the configuration says so. NEOMM_E_NOMEM: nothing remains. */
neomm_status neomm__crypt_init(struct neomm *root);
/* The key is gone. */
void neomm__crypt_fini(struct neomm *root);

/* One more frame, in the direct map, at most NEOMM_POLICY_BATCH of a batch. Sleeps until there is a
 * set: without locks, and without a frame mapped. */
neomm_frame_t neomm__crypt_frame(struct neomm__crypt *crypt, struct neomm__crypt_batch *batch);
/* The frames are not needed any more. */
void neomm__crypt_batch_end(struct neomm__crypt *crypt, struct neomm__crypt_batch *batch);

/* Encrypts a page of the slot, to `out`, which may be `page`; returns the number to decrypt it
 * with. */
uint64_t neomm__crypt_seal(struct neomm__crypt *crypt, uint32_t slot, const uint64_t *page,
                           uint64_t *out);
void neomm__crypt_open(const struct neomm__crypt *crypt, uint32_t slot, uint64_t sequence,
                       uint64_t *page);

#endif
