/* The suites that a kernel runs: the demo its own; the kernel of the tests those of the host
 * that need nothing but env.h, and then a look at what they left behind.
 * SPDX-License-Identifier: MIT */
#include "kernel.h"

#ifdef KERNEL_HOST_SUITES

#include "env_kernel.h"

const struct neomm_boot_range suites_memory = {ENV_MEMORY, ENV_MEMORY_SIZE, NEOMM_MEMORY_BOOT};

static void note_finding(void *context, const char *line)
{
    ktap_note(context, "fsck: %s", line);
}

static void nothing_left(struct ktap *t)
{
    EXPECT_EQ(t, neomm_fsck(memory_root(), note_finding, t), 0);
    EXPECT(t, memory_stop());
}

static const struct ktap_case cases_after[] = {KTAP_CASE(nothing_left)};
KTAP_SUITE(after, cases_after);

#define SUITE(name) extern const struct ktap_suite suite_##name;
KERNEL_HOST_SUITES
#undef SUITE
#define SUITE(name) &suite_##name,
static const struct ktap_suite *const suites[] = {KERNEL_HOST_SUITES & suite_after};

/* Cases that stay on the host. */
static const char *const left_out[] = {
    "several_roots", /* several machines at a time */
};

#else

const struct neomm_boot_range suites_memory = {0, 0, NEOMM_MEMORY_BOOT};

static const struct ktap_suite *const suites[] = {&suite_boot};
static const char *const left_out[] = {""};

#endif

#define CASES_MOST 64

static bool same_text(const char *a, const char *b)
{
    while (*a && *a == *b) {
        a++;
        b++;
    }
    return *a == *b;
}

static bool is_left_out(const char *name)
{
    for (size_t i = 0; i < sizeof(left_out) / sizeof(left_out[0]); i++)
        if (same_text(name, left_out[i]))
            return true;
    return false;
}

static unsigned run(const struct ktap_suite *suite)
{
    struct ktap_case chosen[CASES_MOST];
    uint32_t count = 0;
    for (uint32_t i = 0; i < suite->case_count && count < CASES_MOST; i++)
        if (!is_left_out(suite->cases[i].name))
            chosen[count++] = suite->cases[i];
    const struct ktap_suite here = {suite->name, chosen, count};
    return ktap_run(&here, NULL);
}

unsigned suites_run(void)
{
    unsigned failures = 0;
    for (size_t i = 0; i < sizeof(suites) / sizeof(suites[0]); i++)
        failures += run(suites[i]);
    return failures;
}
