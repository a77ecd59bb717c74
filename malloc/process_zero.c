/* Blocks of no bytes under profile=hardened: addresses of their own without access.
 * SPDX-License-Identifier: MIT
 *
 * One range of addresses, a bit for every 16 bytes of it. Taken in turn, so that an address is used
 * again as late as can be; half of them at most are taken at a time, so that a free one is near. */
#include "process.h"

#include <sys/mman.h>

#define UNIT      16u
#define WORD_BITS 32u
#if UINTPTR_MAX > UINT32_MAX
#define UNITS ((uint32_t)1 << 22)
#else
#define UNITS ((uint32_t)1 << 16)
#endif

static struct {
    uint32_t *taken; /* a bit for each */
    uint32_t live;   /* atomic, as what follows */
    uint32_t next;
} zero;

bool process_zero_start(void)
{
    size_t size = (size_t)UNITS * UNIT;
    zero.taken = process_map(UNITS / 8);
    void *area = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (!zero.taken || area == MAP_FAILED)
        return false;
    process.zero_base = (uintptr_t)area;
    process.zero_size = size;
    return true;
}

static bool set_bit(uint32_t unit)
{
    uint32_t bit = 1u << unit % WORD_BITS;
    return !(__atomic_fetch_or(&zero.taken[unit / WORD_BITS], bit, __ATOMIC_ACQUIRE) & bit);
}

void *process_zero_take(void)
{
    if (__atomic_fetch_add(&zero.live, 1, __ATOMIC_RELAXED) >= UNITS / 2) {
        (void)__atomic_fetch_sub(&zero.live, 1, __ATOMIC_RELAXED);
        return NULL;
    }
    uint32_t unit;
    do
        unit = __atomic_fetch_add(&zero.next, 1, __ATOMIC_RELAXED) % UNITS;
    while (!set_bit(unit));
    return (void *)(process.zero_base + (size_t)unit * UNIT);
}

bool process_zero_give(const void *pointer)
{
    size_t offset = (uintptr_t)pointer - process.zero_base;
    uint32_t unit = (uint32_t)(offset / UNIT), bit = 1u << unit % WORD_BITS;
    const char *wrong = NULL;
    if (offset % UNIT != 0)
        wrong = "not the start of a block";
    else if (!(__atomic_fetch_and(&zero.taken[unit / WORD_BITS], ~bit, __ATOMIC_RELEASE) & bit))
        wrong = "a block of no bytes, freed already";
    if (wrong)
        process_accuse("free", pointer, wrong);
    else
        (void)__atomic_fetch_sub(&zero.live, 1, __ATOMIC_RELAXED);
    return !wrong;
}
