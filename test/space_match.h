/* What several CPUs do to the pages of a space, of its child and of an object, in many schedules.
 * SPDX-License-Identifier: MIT */
#ifndef NEOMM_TEST_SPACE_MATCH_H
#define NEOMM_TEST_SPACE_MATCH_H

#include "ktap.h"

#define MATCH_CPUS 3u

enum act {
    REST,
    TOUCH,       /* writes its own word of each of the parent's pages, and reads it back */
    TOUCH_CHILD, /* the same in the child */
    COPY_OUT,    /* the same by the kernel, in the parent */
    FORK,        /* forks the parent; what the child has is looked at, written to, and goes */
    EXIT,        /* of the child */
    EVICT,
    UNMAP, /* in the parent */
    PROTECT,
    RECLAIM,
    PIN,           /* and a device writes this CPU's word of each of the parent's pages */
    TRUNCATE,      /* the object to nothing, and back */
    MOVE,          /* the parent's pages elsewhere, and back */
    LOCK,          /* them in memory, where they must be from then on */
    GIVE_UP,       /* what is in them */
    PAGE_OUT,      /* page by page */
    MIGRATE,       /* to other frames */
    SWAPOFF,       /* of the area that is used first; another one stays */
    SWAP_OUT,      /* the parent as a whole */
    CHANGE_POLICY, /* of the parent's domain, and back */
    PART           /* one page of the parent's loses the right to write, and gets it back */
};

/* What a plan begins with, and what must hold. */
enum {
    CHILD = 1,   /* there is one when the CPUs begin */
    EVICTED = 2, /* all pages are in swap then */
    LIMITED = 4, /* two pages of each space may be resident */
    MAPPED = 8,  /* no access may fail */
    SHARED = 16, /* the pages are an object's */
    LOST = 32,   /* what is in them may be */
    HUGE = 64,   /* they are the last ones of a huge page */
    FRESH = 128, /* nobody has touched them */
    AHEAD = 256  /* all that are in swap are read with the first one that faults */
};

struct match_plan {
    const char *name;
    enum act act[MATCH_CPUS];
    unsigned with;
};

/* The plan in schedules by seed, and over one page (two with AHEAD) in those with one preemption,
 * or with two. */
void match_by_seed(struct ktap *t, const struct match_plan *plan);
void match_one_after_the_other(struct ktap *t, const struct match_plan *plan);

#define MATCH_PLANS 80u
extern const uint64_t match_numbers[MATCH_PLANS]; /* from 0 */

/* The suite of a file's `plans`: each is run in both ways, as by_seed/N and one_after_the_other/N.
 */
#define MATCH_SUITE(suite_name)                                                                    \
    _Static_assert(sizeof(plans) / sizeof(plans[0]) <= MATCH_PLANS, "each has a number");          \
    static void by_seed(struct ktap *t)                                                            \
    {                                                                                              \
        match_by_seed(t, &plans[t->parameter]);                                                    \
    }                                                                                              \
    static void one_after_the_other(struct ktap *t)                                                \
    {                                                                                              \
        match_one_after_the_other(t, &plans[t->parameter]);                                        \
    }                                                                                              \
    static const struct ktap_case cases[] = {                                                      \
        {"by_seed", by_seed, match_numbers, sizeof(plans) / sizeof(plans[0])},                     \
        {"one_after_the_other", one_after_the_other, match_numbers,                                \
         sizeof(plans) / sizeof(plans[0])},                                                        \
    };                                                                                             \
    KTAP_SUITE(suite_name, cases)

#endif
