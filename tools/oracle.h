/* What memory must hold: a second copy of everything a trace stored, kept outside the machine.
 * SPDX-License-Identifier: MIT
 *
 * A page appears at its first touch, all zeros. Each store writes bytes that depend on its
 * address and its number, so that lost, mixed-up and stale data differ.
 */
#ifndef NEOMM_TOOLS_ORACLE_H
#define NEOMM_TOOLS_ORACLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct oracle_page {
    uint64_t number;                   /* of the virtual page */
    uint8_t *contents;                 /* 4096 bytes */
    struct oracle_page *newer, *older; /* links for a policy that looks at every reference */
    uint32_t frame;                    /* where it is now, 0: not in memory; for that policy */
};

#define ORACLE_FRONT 4096u

struct oracle {
    struct oracle_page **table; /* open hashing */
    size_t capacity, count;
    struct oracle_page *front[ORACLE_FRONT]; /* by the low bits of the page number */
};

bool oracle_create(struct oracle *oracle);
void oracle_destroy(struct oracle *oracle);

struct oracle_page *oracle_find_slowly(struct oracle *oracle, uint64_t number);

/* The page, made if it is new. NULL: the host has no memory. */
static inline struct oracle_page *oracle_page(struct oracle *oracle, uint64_t number)
{
    struct oracle_page *page = oracle->front[number % ORACLE_FRONT];
    return page && page->number == number ? page : oracle_find_slowly(oracle, number);
}

/* The bytes that store number `time` puts at `address`. */
static inline void oracle_value(uint64_t address, uint64_t time, uint8_t *bytes, size_t size)
{
    uint64_t value = (address ^ time << 20) * 0x9e3779b97f4a7c15u + time;
    for (size_t at = 0; at < size; at++) {
        if (at % 8 == 0)
            value = (value ^ value >> 29) * 0xbf58476d1ce4e5b9u;
        bytes[at] = (uint8_t)(value >> 8 * (at % 8));
    }
}

#endif
