/* A naive model of the calls on regions, and each call on both: rights, flags and a word of
 * contents a page. SPDX-License-Identifier: MIT */
#ifndef NEOMM_TEST_CALLS_MODEL_H
#define NEOMM_TEST_CALLS_MODEL_H

#include "env.h"

#define PAGE      NEOMM_PAGE_SIZE
#define PAGES_MAX 64u
#define RW        (NEOMM_PROT_READ | NEOMM_PROT_WRITE)

enum kind {
    MAP,
    UNMAP,
    PROTECT,
    REMAP,
    LOCK,
    UNLOCK,
    GIVE_UP,
    PAGE_OUT,
    ORDER, /* madvise: sequential or normal */
    WILL_NEED,
    SYNC,
    WRITE,
    READ,
    EVICT,
    KINDS
};

struct call {
    enum kind kind;
    uint32_t first, count;
    uint32_t size, to; /* REMAP: pages; the place */
    neomm_prot_t prot;
    unsigned flags; /* of the call; ORDER: sequential; WRITE: the value */
};

struct page {
    bool mapped;
    bool in; /* locked, and was brought in */
    neomm_prot_t prot;
    uint32_t flags; /* of the region */
    uint64_t value;
};

struct model {
    struct ktap *t;
    struct env env;
    struct neomm *root;
    struct neomm_space *space;
    neomm_vaddr_t base;
    uint32_t pages, virtual_limit, locked_limit;
    struct page page[PAGES_MAX];
    uint64_t random;
};

/* The model cannot tell what happens: beyond its pages there is room, too. */
#define UNKNOWN ((neomm_status)1)

/* The space has room for all but an eighth of the pages, and may lock a half. Bit 1 of the
 * parameter: no frame of zeros. */
bool calls_open(struct ktap *t, struct model *m, enum neomm_format format, uint32_t pages);
/* Consistency check, leak check, end. */
void calls_close(struct model *m);
uint32_t calls_pick(struct model *m, uint32_t below);

/* One call on both. False: they differ. */
bool calls_step(struct model *m, struct call call);
/* The two halves of a step: what the model says, which it changes, and the call itself. */
neomm_status calls_expect(struct model *m, struct call *call);
neomm_status calls_perform(struct model *m, const struct call *call);
void calls_note(struct model *m, const struct call *call);
/* In the model alone. */
void calls_clear_pages(struct model *m, uint32_t first, uint32_t count);

/* Regions, rights and counts; and every word. */
void calls_check_all(struct model *m);
void calls_check_contents(struct model *m);

#endif
