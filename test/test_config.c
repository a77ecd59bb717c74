/* The configuration: table, example and reference against each other; values and words.
 * SPDX-License-Identifier: MIT */
#include "config_heard.h"

#include "base/bits.h"
#include "base/config_words.h"

#include <neomm/heap_debug.h>

#include <stdio.h>
#include <stdlib.h>

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
    EXPECT_EQ(t, config.readahead, 16);
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

static const struct ktap_case cases[] = {
    KTAP_CASE(defaults), KTAP_CASE(documents), KTAP_CASE(example_uncommented),
    KTAP_CASE(sizes),    KTAP_CASE(refused),   KTAP_CASE(names),
    KTAP_CASE(truths),   KTAP_CASE(bytes),     KTAP_CASE(overcommit),
    KTAP_CASE(numbers),  KTAP_CASE(closest),
};

KTAP_SUITE(config, cases);
