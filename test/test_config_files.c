/* Files of configuration: all messages, sections, odd and damaged files, and the dump.
 * SPDX-License-Identifier: MIT */
#include "config_heard.h"

#include "base/bits.h"

#include <neomm/heap_debug.h>

#include <stdio.h>
#include <stdlib.h>

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
        "policy_window = 3\npolicy_count = 3\npolicy_tick = 25\nreadahead = 16\n"
        "compression = lz4\npool_limit = 35%\nencryption = no\n[vmm]\novercommit = heuristic\n"
        "aslr = yes\nhuge = advise\nidle_after = 0\n"
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
              "compression = dense\npool_limit = 64M\nencryption = yes\n"
              "[vmm]\novercommit = refuse\naslr = off\nhuge = never\n"
              "[heap]\nprofile = hardened\nsampling = 7\nlimit = 3M\n"
              "[cache \"x\"]\n[cache \"y\"]\nprofile = fast\n"
              "[process \"a\"]\nswap_limit = 3T\n[process \"b\"]\n"
              "[process.default]\nresident_limit = 0\nswap_limit = 4097K\n");
    EXPECT_EQ(t, heard.count, 0);
    round_trip(t, &config);
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

static const uint64_t fuzz_seeds[] = {1, 2, 3, 4};

static const struct ktap_case cases[] = {
    KTAP_CASE(all_messages),
    KTAP_CASE(processes),
    KTAP_CASE(too_many_processes),
    KTAP_CASE(heap_keys),
    KTAP_CASE(caches),
    KTAP_CASE(too_many_caches),
    KTAP_CASE(odd_files),
    KTAP_CASE(long_lines),
    KTAP_CASE(dump),
    KTAP_CASE_WITH(fuzz, fuzz_seeds),
};

KTAP_SUITE(config_files, cases);
