/* The configuration: table, parser, dump, example and reference against each other; values and
 * messages; damaged files.
 * SPDX-License-Identifier: MIT */
#include "ktap.h"

#include "base/bits.h"
#include "base/config_words.h"
#include "base/format.h"
#include "base/memory.h"

#include <neomm/config.h>
#include <neomm/heap_debug.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MESSAGES    64
#define MESSAGE_MAX 256

/* All messages of one run of the parser. */
struct heard {
    uint32_t count, errors;
    char text[MESSAGES][MESSAGE_MAX];
    bool torn; /* a message was not a line of fewer than MESSAGE_MAX bytes */
};

static void hear(void *context, enum neomm_config_level level, const char *text)
{
    struct heard *heard = context;
    size_t length = strnlen(text, MESSAGE_MAX);
    heard->torn |= length == MESSAGE_MAX || strchr(text, '\n') != NULL;
    heard->errors += level == NEOMM_CONFIG_ERROR;
    if (heard->count < MESSAGES && length < MESSAGE_MAX)
        memcpy(heard->text[heard->count], text, length + 1);
    heard->count++;
}

static uint32_t parse(struct ktap *t, struct neomm_config *config, struct heard *heard,
                      const char *text, size_t length, bool strict)
{
    uint32_t errors = UINT32_MAX;
    memset(heard, 0, sizeof(*heard));
    uint32_t messages = neomm_config_parse(config, "f", text, length, strict, hear, heard, &errors);
    EXPECT_EQ(t, messages, heard->count);
    EXPECT_EQ(t, errors, heard->errors);
    EXPECT(t, !heard->torn);
    return messages;
}

/* Parses over the defaults. */
static uint32_t parse_new(struct ktap *t, struct neomm_config *config, struct heard *heard,
                          const char *text)
{
    neomm_config_default(config);
    return parse(t, config, heard, text, strlen(text), false);
}

static void expect_message(struct ktap *t, const struct heard *heard, uint32_t index,
                           const char *want)
{
    if (index < heard->count && strcmp(heard->text[index], want) == 0)
        return;
    ktap_note(t, "message %u: %s", index, index < heard->count ? heard->text[index] : "(none)");
    ktap_note(t, "     wanted: %s", want);
    ktap_fail(t, __FILE__, __LINE__, "the message is the wanted one");
}

static bool same_size(struct neomm_config_size a, uint64_t bytes, uint32_t percent)
{
    return a.bytes == bytes && a.percent == percent;
}

/* ---- table, defaults, files ---- */

static char *read_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    char *text = calloc(1, 1 << 16);
    if (file && text && fread(text, 1, (1 << 16) - 1, file) == 0)
        *text = '\0';
    if (file)
        fclose(file);
    return text;
}

static void defaults(struct ktap *t)
{
    struct neomm_config config;
    memset(&config, 0xff, sizeof(config));
    neomm_config_default(&config);
    EXPECT(t, same_size(config.reserve, 0, 1));
    EXPECT(t, config.zero_page);
    EXPECT_EQ(t, strcmp(config.policy, "adaptive"), 0);
    EXPECT_EQ(t, config.policy_window, 3);
    EXPECT_EQ(t, config.policy_count, 3);
    EXPECT_EQ(t, config.policy_tick, 25);
    EXPECT_EQ(t, config.overcommit, NEOMM_OVERCOMMIT_HEURISTIC);
    EXPECT(t, config.aslr);
    EXPECT_EQ(t, config.heap.profile, NEOMM_HEAP_DEFAULT);
    EXPECT_EQ(t, config.heap.sampling, 1000);
    EXPECT(t, !config.heap.call_sites && !config.heap.fine_classes);
    EXPECT_EQ(t, config.heap.magazine, NEOMM_CONFIG_MAGAZINE_MAX);
    EXPECT(t, same_size(config.heap.limit, UINT64_MAX, 0));
    EXPECT_EQ(t, config.huge, NEOMM_HUGE_ADVISE);
    EXPECT_EQ(t, config.caches, 0);
    EXPECT_EQ(t, neomm_config_cache_profile(&config, "any", 77), 77);
    EXPECT(t, same_size(config.process_default.virtual_limit, UINT64_MAX, 0));
    EXPECT(t, same_size(config.process_default.resident_limit, UINT64_MAX, 0));
    EXPECT(t, same_size(config.process_default.swap_limit, UINT64_MAX, 0));
    EXPECT(t, same_size(config.process_default.locked_limit, UINT64_MAX, 0));
    EXPECT_EQ(t, config.processes, 0);
    EXPECT(t, neomm_config_process(&config, "any") == &config.process_default);
    EXPECT(t, neomm_config_process(&config, NULL) == &config.process_default);
}

/* The line of the example that sets the key, and the row of the reference about it. */
static void key_is_documented(struct ktap *t, const struct neomm_config_key *key,
                              const char *example, const char *reference)
{
    char line[512];
    snprintf(line, sizeof(line), "\n%s = %s\n", key->key, key->default_text);
    if (!strstr(example, line))
        ktap_note(t, "the example lacks: %s = %s", key->key, key->default_text);
    EXPECT(t, strstr(example, line));
    snprintf(line, sizeof(line), "\n| `[%s]` | `%s` | %s | `%s` | %s |\n", key->section, key->key,
             key->type, key->default_text, key->help);
    if (!strstr(reference, line))
        ktap_note(t, "the reference lacks: %s", line + 1);
    EXPECT(t, strstr(reference, line));
}

static unsigned count_lines(const char *text, const char *start)
{
    unsigned count = 0;
    for (const char *at = text; (at = strstr(at, start)) != NULL; at += strlen(start))
        count++;
    return count;
}

static void documents(struct ktap *t)
{
    char *example = read_file(TEST_SOURCE_DIR "/memory_manager.conf.example");
    char *reference = read_file(TEST_SOURCE_DIR "/docs/configuration.md");
    struct neomm_config config, fresh;
    struct heard heard;
    const struct neomm_config_key *key;
    uint32_t keys = 0;
    for (; (key = neomm_config_key_at(keys)) != NULL; keys++)
        key_is_documented(t, key, example, reference);
    EXPECT_EQ(t, count_lines(reference, "\n| `["), keys);
    neomm_config_default(&config);
    EXPECT_EQ(t, parse(t, &config, &heard, example, strlen(example), true), 0);
    neomm_config_default(&fresh);
    EXPECT_EQ(t, memcmp(&config, &fresh, sizeof(config)), 0);
    free(example);
    free(reference);
}

/* The commented section of the example must work when somebody takes the # away. */
static void example_uncommented(struct ktap *t)
{
    char *example = read_file(TEST_SOURCE_DIR "/memory_manager.conf.example");
    struct neomm_config config;
    struct heard heard;
    for (char *at = example; (at = strstr(at, "\n#")) != NULL; at++)
        if (at[2] != ' ' && at[2] != '\n')
            at[1] = ' ';
    EXPECT_EQ(t, parse_new(t, &config, &heard, example), 0);
    ASSERT(t, config.processes == 1 && config.caches == 1);
    EXPECT_EQ(t, neomm_config_cache_profile(&config, "inode", 77), NEOMM_HEAP_HARDENED);
    EXPECT(t, same_size(config.process[0].resident_limit, (uint64_t)512 << 20, 0));
    EXPECT(t, same_size(config.process[0].swap_limit, 0, 25));
    free(example);
}

/* ---- values ---- */

struct size_case {
    const char *text;
    uint64_t bytes;
    uint32_t percent;
};

static void sizes(struct ktap *t)
{
    static const struct size_case good[] = {
        {"0", 0, 0},
        {"1", 1, 0},
        {"4096", 4096, 0},
        {"4K", 4096, 0},
        {"4k", 4096, 0},
        {"4KiB", 4096, 0},
        {"4 KiB", 4096, 0},
        {"4kib", 4096, 0},
        {"3M", 3 << 20, 0},
        {"3MiB", 3 << 20, 0},
        {"5G", (uint64_t)5 << 30, 0},
        {"7T", (uint64_t)7 << 40, 0},
        {"007T", (uint64_t)7 << 40, 0},
        {"16777215T", (uint64_t)16777215 << 40, 0},
        {"18446744073709551609", UINT64_MAX - 6, 0},
        {"0%", 0, 0},
        {"1%", 0, 1},
        {"100%", 0, 100},
        {"50 %", 0, 50},
        {"unlimited", UINT64_MAX, 0},
        {"Unlimited", UINT64_MAX, 0},
    };
    for (size_t i = 0; i < NEOMM__COUNT_OF(good); i++) {
        struct neomm_config config;
        struct heard heard;
        char text[128];
        snprintf(text, sizeof(text), "[process.default]\nswap_limit = %s", good[i].text);
        EXPECT_EQ(t, parse_new(t, &config, &heard, text), 0);
        if (!same_size(config.process_default.swap_limit, good[i].bytes, good[i].percent))
            ktap_note(t, "%s: %llu bytes, %u %%", good[i].text,
                      (unsigned long long)config.process_default.swap_limit.bytes,
                      config.process_default.swap_limit.percent);
        EXPECT(t, same_size(config.process_default.swap_limit, good[i].bytes, good[i].percent));
    }
}

/* A value that is refused, its message, and the key that must keep its default. */
struct bad_case {
    const char *line, *message;
};

static const struct bad_case bad_values[] = {
    {"reserve = unlimited", "f:2:11: error: reserve: cannot be unlimited"},
    {"reserve = 4kB", "f:2:12: error: reserve: 'kB' is ambiguous: write 4K (units of 1024)"},
    {"reserve = 12 MB", "f:2:14: error: reserve: 'MB' is ambiguous: write 12M (units of 1024)"},
    {"reserve = 1gb", "f:2:12: error: reserve: 'gb' is ambiguous: write 1G (units of 1024)"},
    {"reserve = 4Q", "f:2:12: error: reserve: unknown unit: write K, M, G or T"},
    {"reserve = 4KiBs", "f:2:12: error: reserve: unknown unit: write K, M, G or T"},
    {"reserve = 4% %", "f:2:12: error: reserve: unknown unit: write K, M, G or T"},
    {"reserve = 1.5G", "f:2:12: error: reserve: whole numbers only: take the next smaller unit"},
    {"reserve = 101%", "f:2:11: error: reserve: more than 100%"},
    {"reserve = 16777216T", "f:2:11: error: reserve: too large"},
    {"reserve = 18446744073709551616", "f:2:11: error: reserve: too large"},
    {"reserve = 99999999999999999999999K", "f:2:11: error: reserve: too large"},
    {"reserve = -1",
     "f:2:11: error: reserve: not a size: write a number with K, M, G or T, or a percentage"},
    {"reserve = lots",
     "f:2:11: error: reserve: not a size: write a number with K, M, G or T, or a percentage"},
    {"reserve =", "f:2:10: error: reserve: no value"},
    {"reserve = # 4K", "f:2:11: error: reserve: no value"},
    {"  reserve=4K#", "f:2:12: error: reserve: unknown unit: write K, M, G or T"},
    {"zero_page = maybe", "f:2:13: error: zero_page: not a truth value: write yes or no"},
    {"zero_page = yess", "f:2:13: error: zero_page: not a truth value: write yes or no"},
    {"zero_page = 2", "f:2:13: error: zero_page: not a truth value: write yes or no"},
    {"[heap]\nsampling = x", "f:3:12: error: sampling: not a number"},
    {"[heap]\nsampling = -1", "f:3:12: error: sampling: not a number"},
    {"[heap]\nsampling = 1K", "f:3:13: error: sampling: a number alone is wanted, without a unit"},
    {"[heap]\nsampling = 10%", "f:3:14: error: sampling: a number alone is wanted, without a unit"},
    {"[heap]\nsampling = 2147483648", "f:3:12: error: sampling: not from 0 to 2147483647"},
    {"[heap]\nmagazine = 1", "f:3:12: error: magazine: not from 2 to 128"},
    {"[heap]\nmagazine = 129", "f:3:12: error: magazine: not from 2 to 128"},
    {"[heap]\nmagazine = 99999999999999999999", "f:3:12: error: magazine: too large"},
    {"[heap]\nprofile = hard",
     "f:3:11: error: profile: not a profile: write fast, default, guarded or hardened"},
    {"[heap]\nprofil = fast", "f:3:1: warning: unknown key 'profil' (did you mean 'profile'?)"},
    {"[vmm]\nhuge = yes", "f:3:8: error: huge: write never, advise or always"},
    {"[vmm]\nhug = always", "f:3:1: warning: unknown key 'hug' (did you mean 'huge'?)"},
    {"[cache]", "f:2:2: error: whose? write [cache \"NAME\"], or [heap] for all"},
    {"[cache \"\"]", "f:2:9: error: a cache name has 1 to 31 bytes"},
    {"reserve", "f:2:8: error: missing '=' behind 'reserve'"},
    {" = 4K", "f:2:2: error: no key in front of '='"},
    {"reserv = 4K", "f:2:1: warning: unknown key 'reserv' (did you mean 'reserve'?)"},
    {"reservee = 4K", "f:2:1: warning: unknown key 'reservee' (did you mean 'reserve'?)"},
    {"resevre = 4K", "f:2:1: warning: unknown key 'resevre' (did you mean 'reserve'?)"},
    {"zeropage = no", "f:2:1: warning: unknown key 'zeropage' (did you mean 'zero_page'?)"},
    {"Reserve = 4K", "f:2:1: warning: unknown key 'Reserve' (did you mean 'reserve'?)"},
    {"xyz = 4K", "f:2:1: warning: unknown key 'xyz'"},
    {"policy = fifo", "f:2:1: warning: 'policy' belongs in section 'swap'"},
    {"a very long key that nobody would ever write = 1",
     "f:2:1: warning: unknown key 'a very long key that nobody woul...'"},
    {"caf\xc3\xa9 = 1", "f:2:1: warning: unknown key 'caf\?\?'"},
    {"re\rserve = 4K", "f:2:3: error: control byte 0x0d in the line"},
    {"reserve = 4K\x7f", "f:2:13: error: control byte 0x7f in the line"},
    {"[memory", "f:2:8: error: missing ']'"},
    {"[process \"x\"", "f:2:13: error: missing ']'"},
    {"[process \"x]", "f:2:13: error: missing ']'"},
    {"[process \"x\" y]", "f:2:14: error: missing ']'"},
    {"[memory] reserve = 4K", "f:2:10: error: only a comment may follow ']'"},
    {"[memory \"x\"]", "f:2:9: error: only [process \"NAME\"] and [cache \"NAME\"] take a name"},
    {"[process]", "f:2:2: error: whose? write [process \"NAME\"] or [process.default]"},
    {"[process \"\"]", "f:2:11: error: a process name has 1 to 31 bytes"},
    {"[process \"12345678901234567890123456789012\"]",
     "f:2:11: error: a process name has 1 to 31 bytes"},
    {"[ memroy ]", "f:2:3: warning: unknown section 'memroy' (did you mean 'memory'?)"},
    {"[tree]", "f:2:2: warning: unknown section 'tree'"},
    {"[process.defualt]",
     "f:2:2: warning: unknown section 'process.defualt' (did you mean 'process.default'?)"},
    {"[]", "f:2:2: warning: unknown section ''"},
    {"[memory]", "f:2:1: warning: this section began in line 1 already: the two are taken as one"},
};

static void refused(struct ktap *t)
{
    struct neomm_config fresh;
    neomm_config_default(&fresh);
    for (size_t i = 0; i < NEOMM__COUNT_OF(bad_values); i++) {
        struct neomm_config config;
        struct heard heard;
        char text[128];
        snprintf(text, sizeof(text), "[memory]\n%s\n", bad_values[i].line);
        EXPECT_EQ(t, parse_new(t, &config, &heard, text), 1);
        expect_message(t, &heard, 0, bad_values[i].message);
        EXPECT_EQ(t, memcmp(&config, &fresh, sizeof(config)), 0);
        parse(t, &config, &heard, text, strlen(text), true);
        EXPECT_EQ(t, heard.errors, 1);
    }
}

static void names(struct ktap *t)
{
    struct neomm_config config;
    struct heard heard;
    EXPECT_EQ(t, parse_new(t, &config, &heard, "[swap]\npolicy = My-policy_2.0"), 0);
    EXPECT_EQ(t, strcmp(config.policy, "My-policy_2.0"), 0);
    EXPECT_EQ(t, parse_new(t, &config, &heard, "[swap]\npolicy = a b"), 1);
    expect_message(t, &heard, 0,
                   "f:2:11: error: policy: a name has letters, digits, '_', '-' and '.' only");
    EXPECT_EQ(t, strcmp(config.policy, "adaptive"), 0);
    EXPECT_EQ(t, parse_new(t, &config, &heard, "[swap]\npolicy = 1234567890123456789012345678901"),
              0);
    EXPECT_EQ(t, strlen(config.policy), 31);
    EXPECT_EQ(t, parse_new(t, &config, &heard, "[swap]\npolicy = 12345678901234567890123456789012"),
              1);
    expect_message(t, &heard, 0, "f:2:41: error: policy: a name has at most 31 letters");
}

static void truths(struct ktap *t)
{
    static const char *const word[] = {"no", "yes", "false", "true", "off",
                                       "on", "0",   "1",     "NO",   "Yes"};
    for (size_t i = 0; i < NEOMM__COUNT_OF(word); i++) {
        struct neomm_config config;
        struct heard heard;
        char text[64];
        snprintf(text, sizeof(text), "[memory]\nzero_page = %s ; x", word[i]);
        EXPECT_EQ(t, parse_new(t, &config, &heard, text), 1);
        snprintf(text, sizeof(text), "[memory]\nzero_page=%s\t# x", word[i]);
        EXPECT_EQ(t, parse_new(t, &config, &heard, text), 0);
        EXPECT_EQ(t, config.zero_page, i % 2);
    }
}

static void bytes(struct ktap *t)
{
    const struct neomm_config_size share = {0, 33}, all = {0, 100}, fixed = {12345, 0};
    EXPECT_EQ(t, neomm_config_bytes(fixed, 1 << 20), 12345);
    EXPECT_EQ(t, neomm_config_bytes(all, UINT64_MAX), UINT64_MAX);
    for (uint64_t ram = 1; ram < UINT64_MAX / 4; ram = ram * 3 + 1)
        EXPECT_EQ(t, neomm_config_bytes(share, ram), ram / 100 * 33 + ram % 100 * 33 / 100);
}

/* ---- files ---- */

static void all_messages(struct ktap *t)
{
    struct neomm_config config;
    struct heard heard;
    EXPECT_EQ(t,
              parse_new(t, &config, &heard,
                        "reserve = 1\n"
                        "[memory]\r\n"
                        "reserve = 4kB\r\n"
                        "  ; comment\n"
                        "reserve = 8K\n"
                        "reserve = 16K\n"
                        "[swop]\n"
                        "anything = goes unsaid\n"
                        "nothing\n"
                        "[swap]\n"
                        "policy = fifo"),
              6);
    EXPECT_EQ(t, heard.errors, 3);
    expect_message(t, &heard, 0, "f:1:1: error: 'reserve' stands in front of any section");
    expect_message(t, &heard, 1,
                   "f:3:12: error: reserve: 'kB' is ambiguous: write 4K (units of 1024)");
    expect_message(t, &heard, 2, "f:5:1: warning: 'reserve' was given in line 3 already");
    expect_message(t, &heard, 3, "f:6:1: warning: 'reserve' was given in line 5 already");
    expect_message(t, &heard, 4, "f:7:2: warning: unknown section 'swop' (did you mean 'swap'?)");
    expect_message(t, &heard, 5, "f:9:8: error: missing '=' behind 'nothing'");
    EXPECT(t, same_size(config.reserve, 16384, 0));
    EXPECT_EQ(t, strcmp(config.policy, "fifo"), 0);
    EXPECT_EQ(t, neomm_config_parse(&config, "f", "x", 1, false, NULL, NULL, NULL), 1);
}

/* A section before the default's inherits from it all the same; what it sets stays. */
static void processes(struct ktap *t)
{
    struct neomm_config config;
    struct heard heard;
    EXPECT_EQ(t,
              parse_new(t, &config, &heard,
                        "[process \"a b]\"] # first\n"
                        "swap_limit = 1M\n"
                        "[process.default]\n"
                        "swap_limit = 2M\n"
                        "virtual_limit = 3G\n"
                        "[process \"c\"]\n"),
              0);
    ASSERT(t, config.processes == 2);
    const struct neomm_config_process *first = neomm_config_process(&config, "a b]");
    const struct neomm_config_process *second = neomm_config_process(&config, "c");
    EXPECT(t, first == &config.process[0] && second == &config.process[1]);
    EXPECT(t, neomm_config_process(&config, "a") == &config.process_default);
    EXPECT(t, same_size(first->swap_limit, 1 << 20, 0));
    EXPECT(t, same_size(first->virtual_limit, (uint64_t)3 << 30, 0));
    EXPECT(t, same_size(second->swap_limit, 2 << 20, 0));

    /* A second file over the first. */
    static const char more[] = "[process.default]\nswap_limit = 4M\n[process \"c\"]\n"
                               "virtual_limit = 1G\n[process \"d\"]\nresident_limit = 5%\n";
    EXPECT_EQ(t, parse(t, &config, &heard, more, strlen(more), true), 0);
    EXPECT_EQ(t, config.processes, 3);
    EXPECT(t, same_size(first->swap_limit, 1 << 20, 0));
    EXPECT(t, same_size(second->swap_limit, 4 << 20, 0));
    EXPECT(t, same_size(second->virtual_limit, 1 << 30, 0));
    EXPECT(t, same_size(config.process[2].resident_limit, 0, 5));
}

static void heap_keys(struct ktap *t)
{
    struct neomm_config config;
    struct heard heard;
    EXPECT_EQ(t,
              parse_new(t, &config, &heard,
                        "[heap]\nprofile = Guarded\nsampling = 0\ncall_sites = yes\n"
                        "fine_classes = on\nmagazine = 2\nlimit = 25%\n"),
              0);
    EXPECT_EQ(t, config.heap.profile, NEOMM_HEAP_GUARDED);
    EXPECT_EQ(t, config.heap.sampling, 0);
    EXPECT(t, config.heap.call_sites && config.heap.fine_classes);
    EXPECT_EQ(t, config.heap.magazine, 2);
    EXPECT(t, same_size(config.heap.limit, 0, 25));
    EXPECT_EQ(t, parse_new(t, &config, &heard, "[heap]\nsampling=2147483647\nmagazine=128"), 0);
    EXPECT_EQ(t, config.heap.sampling, INT32_MAX);
    EXPECT_EQ(t, config.heap.magazine, 128);
}

/* What a section sets stays, whatever is said of all, before or behind it. */
static void caches(struct ktap *t)
{
    struct neomm_config config;
    struct heard heard;
    EXPECT_EQ(t,
              parse_new(t, &config, &heard,
                        "[cache \"inode\"]\nprofile = hardened\n[cache \"page\"]\n"
                        "[cache \"dentry\"]\nprofile = default\n[heap]\nprofile = fast\n"
                        "[process \"dentry\"]\nswap_limit = 1M\n"),
              0);
    EXPECT_EQ(t, config.caches, 3);
    EXPECT_EQ(t, config.processes, 1);
    EXPECT_EQ(t, neomm_config_cache_profile(&config, "inode", 77), NEOMM_HEAP_HARDENED);
    EXPECT_EQ(t, neomm_config_cache_profile(&config, "page", 77), 77);
    EXPECT_EQ(t, neomm_config_cache_profile(&config, "dentry", 77), NEOMM_HEAP_DEFAULT);
    EXPECT_EQ(t, neomm_config_cache_profile(&config, "other", 77), 77);
    static const char more[] = "[heap]\nprofile = guarded\n";
    EXPECT_EQ(t, parse(t, &config, &heard, more, strlen(more), true), 0);
    EXPECT_EQ(t, neomm_config_cache_profile(&config, "page", 77), 77);
    EXPECT_EQ(t, neomm_config_cache_profile(&config, "dentry", 77), NEOMM_HEAP_DEFAULT);
}

static void too_many_caches(struct ktap *t)
{
    struct neomm_config config;
    struct heard heard;
    char text[2048] = "";
    for (unsigned i = 0; i <= NEOMM_CONFIG_CACHES; i++)
        snprintf(text + strlen(text), sizeof(text) - strlen(text),
                 "[cache \"c%u\"]\nprofile = fast\n", i);
    EXPECT_EQ(t, parse_new(t, &config, &heard, text), 1);
    expect_message(t, &heard, 0, "f:33:9: error: more than 16 cache sections");
    EXPECT_EQ(t, config.caches, NEOMM_CONFIG_CACHES);
    EXPECT_EQ(t, neomm_config_cache_profile(&config, "c15", 77), NEOMM_HEAP_FAST);
}

static void too_many_processes(struct ktap *t)
{
    struct neomm_config config;
    struct heard heard;
    char text[2048] = "";
    for (unsigned i = 0; i <= NEOMM_CONFIG_PROCESSES; i++)
        snprintf(text + strlen(text), sizeof(text) - strlen(text),
                 "[process \"p%u\"]\nswap_limit = %uM\n", i, i);
    EXPECT_EQ(t, parse_new(t, &config, &heard, text), 1);
    expect_message(t, &heard, 0, "f:33:11: error: more than 16 process sections");
    EXPECT_EQ(t, config.processes, NEOMM_CONFIG_PROCESSES);
    EXPECT(t, same_size(config.process[15].swap_limit, 15 << 20, 0));
}

static void odd_files(struct ktap *t)
{
    static const char nul[] = "[memory]\nres\0erve = 1\nzero_page = no\n";
    static const char mac[] = "[memory]\rreserve = 1\r";
    static const char utf16[] = "\xff\xfe[\0m\0";
    struct neomm_config config;
    struct heard heard;
    neomm_config_default(&config);
    EXPECT_EQ(t, parse(t, &config, &heard, NULL, 0, true), 0);
    EXPECT_EQ(t, parse(t, &config, &heard, nul, sizeof(nul) - 1, false), 1);
    expect_message(t, &heard, 0, "f:2:4: error: NUL byte 0x00 in the line");
    EXPECT(t, !config.zero_page);
    EXPECT_EQ(t, parse(t, &config, &heard, mac, sizeof(mac) - 1, false), 1);
    expect_message(t, &heard, 0, "f:1:9: error: control byte 0x0d in the line");
    EXPECT_EQ(t, parse(t, &config, &heard, utf16, sizeof(utf16) - 1, false), 1);
    EXPECT_EQ(t, parse_new(t, &config, &heard, "\xef\xbb\xbf[memory]\r\nzero_page = no\r\n"), 0);
    EXPECT(t, !config.zero_page);
    EXPECT_EQ(t, parse_new(t, &config, &heard, "\n\r\n   \n\t# x\n;\n#\n"), 0);
}

static void long_lines(struct ktap *t)
{
    static const char head[] = "[memory]\n";
    size_t length = 1 << 20;
    char *text = malloc(length), name[300];
    struct neomm_config config;
    struct heard heard;
    memset(text, 'x', length);
    memcpy(text, head, strlen(head));
    neomm_config_default(&config);
    EXPECT_EQ(t, parse(t, &config, &heard, text, length, false), 1);
    expect_message(t, &heard, 0,
                   "f:2:1048568: error: missing '=' behind 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx...'");
    memcpy(text + strlen(head), "reserve = 4K #", 14);
    EXPECT_EQ(t, parse(t, &config, &heard, text, length, false), 0);
    EXPECT(t, same_size(config.reserve, 4096, 0));
    memset(name, 'n', sizeof(name));
    name[sizeof(name) - 1] = '\0';
    memset(&heard, 0, sizeof(heard));
    EXPECT_EQ(t, neomm_config_parse(&config, name, "x", 1, true, hear, &heard, NULL), 1);
    EXPECT(t, !heard.torn && strstr(heard.text[0], ":1:2: error: missing '=' behind 'x'"));
    free(text);
}

/* ---- dump ---- */

struct dumped {
    char text[4096];
};

static void dump_line(void *context, const char *line)
{
    struct dumped *dumped = context;
    snprintf(dumped->text + strlen(dumped->text), sizeof(dumped->text) - strlen(dumped->text),
             "%s\n", line);
}

/* What is dumped, parsed, is what was dumped. */
static void round_trip(struct ktap *t, const struct neomm_config *config)
{
    struct dumped dumped = {""};
    struct neomm_config back;
    struct heard heard;
    neomm_config_dump(config, dump_line, &dumped);
    neomm_config_default(&back);
    EXPECT_EQ(t, parse(t, &back, &heard, dumped.text, strlen(dumped.text), true), 0);
    EXPECT_EQ(t, memcmp(config, &back, sizeof(back)), 0);
}

static void dump(struct ktap *t)
{
    static const char want[] =
        "[memory]\nreserve = 1%\nzero_page = yes\n[swap]\npolicy = adaptive\n"
        "policy_window = 3\npolicy_count = 3\npolicy_tick = 25\n"
        "[vmm]\novercommit = heuristic\naslr = yes\nhuge = advise\n"
        "[heap]\nprofile = default\nsampling = 1000\ncall_sites = no\n"
        "fine_classes = no\nmagazine = 128\nlimit = unlimited\n"
        "[process.default]\nvirtual_limit = unlimited\n"
        "resident_limit = unlimited\nswap_limit = unlimited\nlocked_limit = unlimited\n";
    struct neomm_config config;
    struct dumped dumped = {""};
    struct heard heard;
    neomm_config_default(&config);
    neomm_config_dump(&config, dump_line, &dumped);
    EXPECT_EQ(t, strcmp(dumped.text, want), 0);
    round_trip(t, &config);
    parse_new(t, &config, &heard,
              "[memory]\nreserve = 1025\nzero_page = no\n[swap]\npolicy=x\n"
              "[vmm]\novercommit = refuse\naslr = off\nhuge = never\n"
              "[heap]\nprofile = hardened\nsampling = 7\nlimit = 3M\n"
              "[cache \"x\"]\n[cache \"y\"]\nprofile = fast\n"
              "[process \"a\"]\nswap_limit = 3T\n[process \"b\"]\n"
              "[process.default]\nresident_limit = 0\nswap_limit = 4097K\n");
    EXPECT_EQ(t, heard.count, 0);
    round_trip(t, &config);
}

/* ---- overcommit ---- */

static void overcommit(struct ktap *t)
{
    static const char *const text[] = {"heuristic", "always", "refuse", "Refuse"};
    static const enum neomm_overcommit mode[] = {NEOMM_OVERCOMMIT_HEURISTIC,
                                                 NEOMM_OVERCOMMIT_ALWAYS, NEOMM_OVERCOMMIT_REFUSE,
                                                 NEOMM_OVERCOMMIT_REFUSE};
    struct neomm_config config;
    struct heard heard;
    for (size_t i = 0; i < 4; i++) {
        char line[64];
        snprintf(line, sizeof(line), "[vmm]\novercommit = %s\naslr = no", text[i]);
        EXPECT_EQ(t, parse_new(t, &config, &heard, line), 0);
        EXPECT_EQ(t, config.overcommit, mode[i]);
        EXPECT(t, !config.aslr);
    }
    EXPECT_EQ(t, parse_new(t, &config, &heard, "[vmm]\novercommit = never"), 1);
    expect_message(t, &heard, 0,
                   "f:2:14: error: overcommit: not a mode: write refuse, heuristic or always");
    EXPECT_EQ(t, config.overcommit, NEOMM_OVERCOMMIT_HEURISTIC);
}

/* ---- numbers ---- */

static void numbers(struct ktap *t)
{
    static const struct {
        const char *text;
        uint32_t value; /* 0: refused, and the default stays */
        const char *message;
    } wanted[] = {
        {"1", 1, NULL},
        {"1000", 1000, NULL},
        {"0025", 25, NULL},
        {"0", 0, "f:2:15: error: policy_tick: not from 1 to 1000"},
        {"1001", 0, "f:2:15: error: policy_tick: not from 1 to 1000"},
        {"4294967321", 0, "f:2:15: error: policy_tick: not from 1 to 1000"},
        {"99999999999999999999999", 0, "f:2:15: error: policy_tick: too large"},
        {"12%", 0, "f:2:17: error: policy_tick: a number alone is wanted, without a unit"},
        {"-1", 0, "f:2:15: error: policy_tick: not a number"},
    };
    struct neomm_config config;
    struct heard heard;
    char text[96];
    for (size_t i = 0; i < NEOMM__COUNT_OF(wanted); i++) {
        snprintf(text, sizeof(text), "[swap]\npolicy_tick = %s", wanted[i].text);
        EXPECT_EQ(t, parse_new(t, &config, &heard, text), wanted[i].message != NULL);
        EXPECT_EQ(t, config.policy_tick, wanted[i].value ? wanted[i].value : 25);
        if (wanted[i].message)
            expect_message(t, &heard, 0, wanted[i].message);
    }
    EXPECT_EQ(t, parse_new(t, &config, &heard, "[swap]\npolicy_window = 51"), 1);
    EXPECT_EQ(t, parse_new(t, &config, &heard, "[swap]\npolicy_count = 4"), 1);
    EXPECT_EQ(t, parse_new(t, &config, &heard, "[swap]\npolicy_count = 2\npolicy_window=50"), 0);
    EXPECT_EQ(t, config.policy_count, 2);
    EXPECT_EQ(t, config.policy_window, 50);
}

/* ---- damage ---- */

static const char fuzz_base[] =
    "\xef\xbb\xbf# comment\n[memory]\nreserve = 64MiB # x\nzero_page = no\r\n[swap]\npolicy = "
    "fifo\n[process.default]\nvirtual_limit = 4G\nresident_limit = 25%\nswap_limit = unlimited\n"
    "[heap]\nmagazine = 64\nprofile = fast\n[cache \"inode\"]\nprofile = guarded\n"
    "[process \"shell\"]\nresident_limit=1M\n[process \"editor\"] ; y\nswap_limit = 12 K";

static const char *const fuzz_piece[] = {
    "[",        "]",  "\"",        "=",       "\n",          "\r",        "#",
    " # ",      "%",  "unlimited", "process", "[process \"", "[cache \"", "hardened",
    "[heap]\n", "kB", "GiB",       "999",     "\t",          "policy",    "[memory]\n"};

static size_t mutate(char *text, size_t length, size_t room, uint64_t *seed)
{
    uint64_t draw = neomm__mix(*seed += 0x9e3779b97f4a7c15u);
    size_t at = length ? (size_t)(draw >> 32) % length : 0;
    const char *piece = fuzz_piece[(draw >> 8) % NEOMM__COUNT_OF(fuzz_piece)];
    size_t size = strlen(piece), cut = (size_t)(draw >> 16 & 15);
    switch (draw & 3) {
    case 0:
        if (length)
            text[at] = (char)(draw >> 24);
        return length;
    case 1:
        cut = cut < length - at ? cut : length - at;
        memmove(text + at, text + at + cut, length - at - cut);
        return length - cut;
    case 2:
        if (length + size > room)
            return length;
        memmove(text + at + size, text + at, length - at);
        memcpy(text + at, piece, size);
        return length + size;
    default:
        return length - (cut < length ? cut : length);
    }
}

/* Every message names a place of the text; every configuration that comes out can be written
 * and read back. The text has its exact size on the heap, so that a byte too far is seen. */
static void judge_fuzzed(struct ktap *t, const char *text, size_t length)
{
    struct neomm_config config;
    struct heard heard;
    char *exact = malloc(length ? length : 1);
    unsigned lines = 1;
    memcpy(exact, text, length);
    for (size_t i = 0; i < length; i++)
        lines += text[i] == '\n';
    neomm_config_default(&config);
    parse(t, &config, &heard, exact, length, false);
    for (uint32_t i = 0; i < heard.count && i < MESSAGES; i++) {
        char *end;
        unsigned long line = strtoul(heard.text[i] + 2, &end, 10);
        unsigned long column = strtoul(end + 1, &end, 10);
        EXPECT(t, line >= 1 && line <= lines && column >= 1 && column <= length + 1);
        EXPECT(t, strncmp(end, ": error: ", 9) == 0 || strncmp(end, ": warning: ", 11) == 0);
    }
    round_trip(t, &config);
    free(exact);
}

static void fuzz(struct ktap *t)
{
    uint64_t seed = t->parameter;
    for (unsigned run = 0; run < 4000 && t->failures == 0; run++) {
        char text[2048];
        size_t length = sizeof(fuzz_base) - 1;
        memcpy(text, fuzz_base, length);
        unsigned mutations = 1 + run % 24;
        while (mutations-- > 0)
            length = mutate(text, length, sizeof(text), &seed);
        judge_fuzzed(t, text, length);
    }
}

/* ---- words ---- */

static void closest(struct ktap *t)
{
    static const char *const word[] = {"reserve", "zero_page", "policy", "on"};
    static const struct {
        const char *text;
        int index; /* -1: none */
    } wanted[] = {{"reserve", 0},  {"eserve", 0},    {"rserve", 0},
                  {"erserve", 0},  {"reserves", 0},  {"rxsxrve", 0},
                  {"xxxerve", -1}, {"zero_paeg", 1}, {"ezro_paeg", 1},
                  {"polcy", 2},    {"polixx", 2},    {"pol", -1},
                  {"o", -1},       {"no", -1},       {"ox", -1},
                  {"onn", 3},      {"", -1},         {"reservereservereservereservereserve", -1}};
    for (size_t i = 0; i < NEOMM__COUNT_OF(wanted); i++) {
        const char *found = neomm__config_closest(wanted[i].text, strlen(wanted[i].text), word,
                                                  NEOMM__COUNT_OF(word));
        const char *want = wanted[i].index < 0 ? NULL : word[wanted[i].index];
        if (found != want)
            ktap_note(t, "'%s': %s", wanted[i].text, found ? found : "(none)");
        EXPECT(t, found == want);
    }
    static const char *const length_limit[] = {"12345678901234567890123456789012"};
    EXPECT(t, !neomm__config_closest("1234567890123456789012345678901", 31, length_limit, 1));
}

static const uint64_t fuzz_seeds[] = {1, 2, 3, 4};

static const struct ktap_case cases[] = {
    KTAP_CASE(defaults),
    KTAP_CASE(documents),
    KTAP_CASE(example_uncommented),
    KTAP_CASE(sizes),
    KTAP_CASE(refused),
    KTAP_CASE(names),
    KTAP_CASE(truths),
    KTAP_CASE(bytes),
    KTAP_CASE(all_messages),
    KTAP_CASE(processes),
    KTAP_CASE(too_many_processes),
    KTAP_CASE(heap_keys),
    KTAP_CASE(caches),
    KTAP_CASE(too_many_caches),
    KTAP_CASE(odd_files),
    KTAP_CASE(long_lines),
    KTAP_CASE(overcommit),
    KTAP_CASE(numbers),
    KTAP_CASE(dump),
    KTAP_CASE_WITH(fuzz, fuzz_seeds),
    KTAP_CASE(closest),
};

KTAP_SUITE(config, cases);
