/* From a long history that fails to a short one that still does, for tests against models.
 * SPDX-License-Identifier: MIT
 *
 * Source: A. Zeller, R. Hildebrandt, "Simplifying and isolating failure-inducing input" (IEEE
 * Transactions on Software Engineering 28(2), 2002): parts are left out, large ones first. */
#ifndef NEOMM_TEST_SHRINK_H
#define NEOMM_TEST_SHRINK_H

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct shrink {
    void *items; /* the history, which becomes shorter */
    size_t size; /* of an item */
    uint32_t count;
    bool (*fails)(void *context, uint32_t count); /* does the history of the first `count` items? */
    void *context;
};

/* Leaves out `part` items at `at` if the rest fails, too. */
static inline bool shrink_by(struct shrink *s, uint8_t *kept, uint32_t at, uint32_t part)
{
    uint8_t *items = s->items;
    memcpy(kept, items, s->count * s->size);
    memmove(items + at * s->size, items + (at + part) * s->size, (s->count - at - part) * s->size);
    if (s->fails(s->context, s->count - part)) {
        s->count -= part;
        return true;
    }
    memcpy(items, kept, s->count * s->size);
    return false;
}

/* In the end no single item can be left out. The whole fails. */
static inline void shrink(struct shrink *s)
{
    uint8_t *kept = malloc(s->count * s->size);
    bool less = true;
    for (uint32_t part = s->count / 2; kept && (part > 1 || less); part = part > 1 ? part / 2 : 1) {
        part = part > 0 ? part : 1;
        less = false;
        for (uint32_t at = 0; at < s->count;) {
            uint32_t some = part < s->count - at ? part : s->count - at;
            if (shrink_by(s, kept, at, some))
                less = true;
            else
                at += some;
        }
        less = less || part > 1;
    }
    free(kept);
}

#endif
