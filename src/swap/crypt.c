/* Encryption of what goes to swap devices.
 * SPDX-License-Identifier: MIT
 *
 * ChaCha20 with a key that the layer draws when it begins and keeps in its own memory only. A
 * stream may encrypt one page only, else two encrypted pages tell how the pages differ. So each
 * encryption has a number of its own, from a counter of the layer, and the nonce is
 *
 *   [slot][number, low][number, high]
 *
 * No nonce comes twice with a key: the number is taken by a compare-exchange that moves the counter
 * on, before anything is encrypted with it, so no two encryptions have the same one, on whatever
 * CPUs; 64 bits do not wrap, at 10^9 pages a second for 500 years; and the counter lives and dies
 * with the key. That holds also where a slot's number comes again with another area, its generation
 * wraps, a write fails and is repeated, or a page is written by the pool and by its owner at a
 * time. A page's 64 blocks are blocks 0 to 63 of its stream. The number is kept for each slot,
 * beside its record, and changes with the checksum. (The slot is in the nonce so that what lies in
 * one slot means nothing in another; numbers alone would do.)
 *
 * Pages are encrypted on the way out into frames that were reserved at the start, since a page
 * that is written stays mapped meanwhile, and what its owner reads must not change. Nothing is
 * allocated on the way.
 */
#include "swap/crypt.h"

#define PAGE_BLOCKS (NEOMM_PAGE_SIZE / sizeof(uint64_t) / NEOMM__CHACHA20_WORDS)

/* ---- pages ---- */

static uint64_t next_number(struct neomm__crypt *crypt)
{
    uint64_t number = 0, found;
    while ((found = neomm__cas64(&crypt->sequence, number, number + 1)) != number)
        number = found;
    return number;
}

static void combine(const struct neomm__crypt *crypt, uint32_t slot, uint64_t number,
                    const uint64_t *in, uint64_t *out)
{
    const uint32_t nonce[NEOMM__CHACHA20_NONCE] = {slot, (uint32_t)number,
                                                   (uint32_t)(number >> 32)};
    neomm__chacha20(crypt->key, nonce, 0, in, out, PAGE_BLOCKS);
}

uint64_t neomm__crypt_seal(struct neomm__crypt *crypt, uint32_t slot, const uint64_t *page,
                           uint64_t *out)
{
    uint64_t number = next_number(crypt);
    combine(crypt, slot, number, page, out);
    return number;
}

void neomm__crypt_open(const struct neomm__crypt *crypt, uint32_t slot, uint64_t sequence,
                       uint64_t *page)
{
    combine(crypt, slot, sequence, page, page);
}

/* ---- frames to write from ---- */

/* Who has a set waits for devices and the pool at most, and these wait for no set: it comes back.
 */
static uint32_t take_set(struct neomm__crypt *crypt)
{
    uint32_t free = neomm__load_acquire(&crypt->free);
    for (;;) {
        if (free == 0) {
            (void)neomm_port_wait(&crypt->free, 0, UINT64_MAX);
            free = neomm__load_acquire(&crypt->free);
        } else if (neomm__cas(&crypt->free, &free, free & (free - 1))) {
            return neomm__lowest_bit(free);
        }
    }
}

neomm_frame_t neomm__crypt_frame(struct neomm__crypt *crypt, struct neomm__crypt_batch *batch)
{
    if (batch->set == NEOMM__CRYPT_NONE)
        batch->set = take_set(crypt);
    NEOMM__ASSERT(batch->used < NEOMM_POLICY_BATCH);
    return crypt->set[batch->set][batch->used++];
}

void neomm__crypt_batch_end(struct neomm__crypt *crypt, struct neomm__crypt_batch *batch)
{
    if (batch->set == NEOMM__CRYPT_NONE)
        return;
    (void)neomm__fetch_or(&crypt->free, 1u << batch->set);
    neomm_port_wake(&crypt->free, 1);
}

/* ---- beginning and end ---- */

static neomm_status make_sets(struct neomm *root, struct neomm__crypt *crypt)
{
    uint32_t sets = root->cpus < NEOMM__CRYPT_SETS ? root->cpus : NEOMM__CRYPT_SETS;
    neomm_status status = NEOMM_OK;
    while (status == NEOMM_OK && crypt->sets < sets) {
        status = NEOMM__FAULT(SWAP_STATE)
                     ? NEOMM_E_NOMEM
                     : neomm_pmm_alloc_bulk(root, NEOMM_POLICY_BATCH, NEOMM_NORECLAIM,
                                            crypt->set[crypt->sets]);
        crypt->sets += status == NEOMM_OK;
    }
    crypt->free = (1u << crypt->sets) - 1;
    return status;
}

static void draw_key(struct neomm__crypt *crypt)
{
    for (unsigned i = 0; i < NEOMM__CHACHA20_KEY; i += 2) {
        uint64_t random = neomm_port_entropy();
        crypt->key[i] = (uint32_t)random;
        crypt->key[i + 1] = (uint32_t)(random >> 32);
    }
}

neomm_status neomm__crypt_init(struct neomm *root)
{
    neomm_frame_t frame;
    if (!root->config.encryption)
        return NEOMM_OK;
    neomm_status status = NEOMM__FAULT(SWAP_STATE)
                              ? NEOMM_E_NOMEM
                              : neomm_pmm_alloc(root, 0, NEOMM_NORECLAIM, &frame);
    if (status != NEOMM_OK)
        return status;
    struct neomm__crypt *crypt = neomm_direct_pointer(root, neomm_frame_paddr(frame));
    memset(crypt, 0, sizeof(*crypt));
    crypt->frame = frame;
    root->swap->crypt = crypt;
    draw_key(crypt);
    status = make_sets(root, crypt);
    if (status != NEOMM_OK)
        neomm__crypt_fini(root);
    return status;
}

void neomm__crypt_fini(struct neomm *root)
{
    struct neomm__crypt *crypt = root->swap->crypt;
    if (!crypt)
        return;
    for (uint32_t i = 0; i < crypt->sets; i++)
        (void)neomm_pmm_free_bulk(root, NEOMM_POLICY_BATCH, crypt->set[i], NULL);
    neomm_frame_t frame = crypt->frame;
    neomm__wipe(crypt, sizeof(*crypt));
    root->swap->crypt = NULL;
    (void)neomm_pmm_free(root, frame, 0);
}
