/* NEOMM_MALLOC_OPTIONS: key=value, separated by commas (docs/malloc.md).
 * SPDX-License-Identifier: MIT */
#include "process.h"

#include <stdlib.h>
#include <string.h>
#include <sys/sysinfo.h>
#include <unistd.h>

/* What is reserved by default at least and at most. */
#if UINTPTR_MAX > UINT32_MAX
#define RESERVE_FROM ((uint64_t)1 << 30)
#define RESERVE_TO   ((uint64_t)64 << 30)
#else
#define RESERVE_FROM ((uint64_t)768 << 20)
#define RESERVE_TO   RESERVE_FROM
#endif
#define RETAIN_DEFAULT   ((size_t)32 << 20)
#define SAMPLING_DEFAULT 1000u

/* Digits and one of K M G T, all of `length`; as much as fits into a size. */
static bool parse_size(const char *text, size_t length, size_t *size)
{
    static const char units[] = "KMGT";
    size_t value = 0, i = 0;
    for (; i < length && text[i] >= '0' && text[i] <= '9'; i++)
        if (__builtin_mul_overflow(value, (size_t)10, &value) ||
            __builtin_add_overflow(value, (size_t)(text[i] - '0'), &value))
            return false;
    if (i == 0 || length - i > 1)
        return false;
    if (i < length) {
        const char *unit = memchr(units, text[i], sizeof(units) - 1);
        unsigned shift = unit ? 10 * (unsigned)(unit - units + 1) : 0;
        if (!unit)
            return false;
        bool fits = shift < sizeof(size_t) * 8 && value <= SIZE_MAX >> shift;
        value = fits ? value << shift : SIZE_MAX;
    }
    *size = value;
    return true;
}

static bool is(const char *text, size_t length, const char *word)
{
    return strlen(word) == length && memcmp(text, word, length) == 0;
}

static bool parse_profile(const char *text, size_t length, enum neomm_heap_profile *profile)
{
    static const char *const names[NEOMM_HEAP_PROFILES] = {[NEOMM_HEAP_FAST] = "fast",
                                                           [NEOMM_HEAP_DEFAULT] = "default",
                                                           [NEOMM_HEAP_GUARDED] = "guarded",
                                                           [NEOMM_HEAP_HARDENED] = "hardened"};
    unsigned i = 0;
    while (i < NEOMM_HEAP_PROFILES && !is(text, length, names[i]))
        i++;
    *profile = (enum neomm_heap_profile)i;
    return i < NEOMM_HEAP_PROFILES;
}

static bool set(struct process_options *options, const char *key, size_t key_length,
                const char *value, size_t length)
{
    size_t number;
    if (is(key, key_length, "bad_free")) {
        options->bad_free_aborts = is(value, length, "abort");
        return options->bad_free_aborts || is(value, length, "log");
    }
    if (is(key, key_length, "reserve"))
        return parse_size(value, length, &options->reserve);
    if (is(key, key_length, "retain"))
        return parse_size(value, length, &options->retain);
    if (is(key, key_length, "slots") && parse_size(value, length, &number)) {
        options->slots = (uint32_t)number;
        return number >= 1 && number <= PROCESS_SLOTS_MOST;
    }
    if (is(key, key_length, "profile"))
        return parse_profile(value, length, &options->profile);
    if (is(key, key_length, "sampling") && parse_size(value, length, &number)) {
        options->sampling = (uint32_t)number;
        return number <= INT32_MAX;
    }
    if (is(key, key_length, "stats") && length < sizeof(options->stats)) {
        memcpy(options->stats, value, length);
        options->stats[length] = '\0';
        return length > 0;
    }
    return false;
}

static void complain(const char *part, size_t length)
{
    struct process_text text = {.length = 0};
    char copy[128];
    length = length < sizeof(copy) ? length : sizeof(copy) - 1;
    memcpy(copy, part, length);
    copy[length] = '\0';
    process_text_add(&text, "neomm-malloc: NEOMM_MALLOC_OPTIONS: not understood: ");
    process_text_add(&text, copy);
    process_text_add(&text, "\n");
    process_text_write(&text, STDERR_FILENO);
}

/* As much as the machine has: each GiB of addresses costs 32 KiB of bits that are written at the
 * start. */
static size_t reserve_default(void)
{
    struct sysinfo info;
    if (sysinfo(&info) != 0)
        return (size_t)RESERVE_TO;
    uint64_t size = ((uint64_t)info.totalram + info.totalswap) * info.mem_unit;
    size = size > RESERVE_FROM ? size : RESERVE_FROM;
    return (size_t)(size < RESERVE_TO ? size : RESERVE_TO);
}

void process_options_read(struct process_options *options)
{
    const struct process_options defaults = {.bad_free_aborts = true,
                                             .reserve = reserve_default(),
                                             .retain = RETAIN_DEFAULT,
                                             .profile = NEOMM_HEAP_DEFAULT,
                                             .sampling = SAMPLING_DEFAULT};
    *options = defaults;
    const char *part = secure_getenv("NEOMM_MALLOC_OPTIONS");
    while (part && *part) {
        size_t length = strcspn(part, ",");
        const char *equals = memchr(part, '=', length);
        struct process_options changed = *options;
        if (equals && set(&changed, part, (size_t)(equals - part), equals + 1,
                          length - (size_t)(equals + 1 - part)))
            *options = changed;
        else if (length > 0)
            complain(part, length);
        part += length + (part[length] == ',');
    }
}
