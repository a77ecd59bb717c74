/* The test harness: KTAP version 1, freestanding, the same on host, -m32 and in the kernel.
 * SPDX-License-Identifier: MIT
 *
 * A test file defines one suite; a case may have a list of parameters, and then runs once for
 * each, with the id case/parameter, which can be run alone (`test-pmm map_unmap/3`).
 */
#ifndef NEOMM_TEST_KTAP_H
#define NEOMM_TEST_KTAP_H

#include <neomm/types.h>

struct ktap {
    const char *id;      /* of the case that runs */
    uint64_t parameter;  /* its parameter, 0 without a list */
    unsigned failures;   /* of this case */
    const char *skipped; /* why, NULL: not */
};

struct ktap_case {
    const char *name;
    void (*run)(struct ktap *t);
    const uint64_t *parameters;
    uint32_t parameter_count; /* 0: runs once */
};

struct ktap_suite {
    const char *name;
    const struct ktap_case *cases;
    uint32_t case_count;
};

#define KTAP_CASE(function)                                                                        \
    {                                                                                              \
#function, function, NULL, 0                                                               \
    }
#define KTAP_CASE_WITH(function, list)                                                             \
    {                                                                                              \
#function, function, list, (uint32_t)(sizeof(list) / sizeof((list)[0]))                    \
    }
#define KTAP_SUITE(suite_name, list)                                                               \
    const struct ktap_suite suite_##suite_name = {#suite_name, list,                               \
                                                  (uint32_t)(sizeof(list) / sizeof((list)[0]))}

/* Runs the cases of a suite whose id starts with `only` (NULL: all) and prints KTAP through
 * ktap_write. Returns the number of failed cases; no case matched counts as one. */
unsigned ktap_run(const struct ktap_suite *suite, const char *only);

/* Prints the ids of all cases, one a line. */
void ktap_list(const struct ktap_suite *suite);

/* Supplied by the program: prints text. */
void ktap_write(const char *text, size_t length);

/* One diagnostic line ("# ..."). */
void ktap_note(struct ktap *t, const char *format, ...) NEOMM_PRINTF(2, 3);
void ktap_fail(struct ktap *t, const char *file, int line, const char *what);
void ktap_fail_equal(struct ktap *t, const char *file, int line, const char *what, long long have,
                     long long want);
void ktap_skip(struct ktap *t, const char *why);

/* EXPECT notes a failure and goes on; ASSERT also leaves the function. */
#define EXPECT(t, condition) ((condition) ? (void)0 : ktap_fail(t, __FILE__, __LINE__, #condition))
#define EXPECT_EQ(t, have, want)                                                                   \
    do {                                                                                           \
        long long ktap_have = (long long)(have), ktap_want = (long long)(want);                    \
        if (ktap_have != ktap_want)                                                                \
            ktap_fail_equal(t, __FILE__, __LINE__, #have " == " #want, ktap_have, ktap_want);      \
    } while (0)
#define EXPECT_OK(t, call) EXPECT_EQ(t, call, NEOMM_OK)
#define ASSERT(t, condition)                                                                       \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            ktap_fail(t, __FILE__, __LINE__, #condition);                                          \
            return;                                                                                \
        }                                                                                          \
    } while (0)
#define ASSERT_OK(t, call) ASSERT(t, (call) == NEOMM_OK)

#endif
