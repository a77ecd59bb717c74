/* The keys of memory_manager.conf, their defaults, and what follows from them.
 * SPDX-License-Identifier: MIT */
#include "config_priv.h"

#include "bits.h"
#include "format.h"
#include "memory.h"

#define ROW(section_, SECTION, name, TYPE, type_text, structure, field, default_, help_)           \
    RANGE(section_, SECTION, name, TYPE, type_text, structure, field, default_, 0, 0, help_)
#define RANGE(section_, SECTION, name, TYPE, type_text, structure, field, default_, least_, most_, \
              help_)                                                                               \
    {                                                                                              \
        {section_, name, type_text, default_, help_}, NEOMM__CONFIG_##SECTION,                     \
            NEOMM__CONFIG_##TYPE, offsetof(struct structure, field), least_, most_                 \
    }

const struct neomm__config_row neomm__config_row[NEOMM__CONFIG_ROWS] = {
    ROW("memory", MEMORY, "reserve", SIZE, "size", neomm_config, reserve, "1%",
        "Memory kept back for requests that may neither wait nor fail lightly."),
    ROW("memory", MEMORY, "zero_page", BOOL, "bool", neomm_config, zero_page, "yes",
        "Pages that were only read so far share one frame of zeros."),
    ROW("swap", SWAP, "policy", NAME, "name", neomm_config, policy, "adaptive",
        "Which page leaves memory first, by the name of a replacement policy."),
    RANGE("swap", SWAP, "policy_window", NUMBER, "number", neomm_config, policy_window, "3", 1, 50,
          "Percent of the pages that are new to adaptive, clockpro, s3fifo and sieve."),
    RANGE("swap", SWAP, "policy_count", NUMBER, "number", neomm_config, policy_count, "3", 1, 3,
          "How far adaptive, gclock and s3fifo count the uses of a page."),
    RANGE("swap", SWAP, "policy_tick", NUMBER, "number", neomm_config, policy_tick, "25", 1, 1000,
          "Percent of the pages that enter between ticks of aging, generations, nru, ws, wsclock."),
    RANGE("swap", SWAP, "readahead", NUMBER, "number", neomm_config, readahead, "16", 0, 16,
          "Most pages read from swap together; 0: only the one that is needed."),
    ROW("swap", SWAP, "compression", CODEC, "codec", neomm_config, compression, "lz4",
        "How pages that leave memory are made smaller first: off, lz4 or dense."),
    ROW("swap", SWAP, "pool_limit", SIZE, "size", neomm_config, pool_limit, "35%",
        "Most memory that compressed pages hold, to begin with."),
    ROW("swap", SWAP, "encryption", BOOL, "bool", neomm_config, encryption, "no",
        "Pages on swap devices can only be read by the system that wrote them, until it ends."),
    ROW("vmm", VMM, "overcommit", OVERCOMMIT, "overcommit", neomm_config, overcommit, "heuristic",
        "What may be promised beyond RAM and swap: refuse, heuristic or always."),
    ROW("vmm", VMM, "aslr", BOOL, "bool", neomm_config, aslr, "yes",
        "What a process maps without saying where lies at a random distance."),
    ROW("vmm", VMM, "huge", WHERE, "where", neomm_config, huge, "advise",
        "Where a first touch brings a huge page: never, advise (where a program asks) or always."),
    RANGE("vmm", VMM, "idle_after", NUMBER, "number", neomm_config, idle_after, "0", 0, 1000000,
          "Seconds after which a process that does nothing is swapped out as a whole; 0: never."),
    ROW("heap", HEAP, "profile", PROFILE, "profile", neomm_config, heap.profile, "default",
        "How carefully objects are treated: fast, default, guarded or hardened."),
    RANGE("heap", HEAP, "sampling", NUMBER, "number", neomm_config, heap.sampling, "1000", 0,
          INT32_MAX, "One object in so many of a guarded cache has a page of its own; 0: none."),
    ROW("heap", HEAP, "call_sites", BOOL, "bool", neomm_config, heap.call_sites, "no",
        "Live objects are counted by the place that allocated them."),
    ROW("heap", HEAP, "fine_classes", BOOL, "bool", neomm_config, heap.fine_classes, "no",
        "Eight size classes a doubling in place of four: less is lost by rounding up."),
    RANGE("heap", HEAP, "magazine", NUMBER, "number", neomm_config, heap.magazine, "128", 2,
          NEOMM_CONFIG_MAGAZINE_MAX, "Most free objects that each CPU keeps of a cache."),
    ROW("heap", HEAP, "limit", LIMIT, "size", neomm_config, heap.limit, "unlimited",
        "Most memory that slabs and large blocks hold."),
    ROW("cache", CACHE, "profile", PROFILE, "profile", neomm_config_cache, profile, "default",
        "How carefully objects of this cache are treated."),
    ROW("process", PROCESS, "virtual_limit", LIMIT, "size", neomm_config_process, virtual_limit,
        "unlimited", "Most address space that one process may map."),
    ROW("process", PROCESS, "resident_limit", LIMIT, "size", neomm_config_process, resident_limit,
        "unlimited", "Most memory that one process holds; at the limit it swaps its own pages."),
    ROW("process", PROCESS, "swap_limit", LIMIT, "size", neomm_config_process, swap_limit,
        "unlimited", "Most swap space that one process may fill."),
    ROW("process", PROCESS, "locked_limit", LIMIT, "size", neomm_config_process, locked_limit,
        "unlimited", "Most memory that one process may lock."),
};

static size_t text_length(const char *text)
{
    size_t length = 0;
    while (text[length])
        length++;
    return length;
}

void neomm_config_default(struct neomm_config *config)
{
    struct neomm__config_error error;
    memset(config, 0, sizeof(*config));
    for (size_t i = 0; i < NEOMM__CONFIG_ROWS; i++) {
        const struct neomm__config_row *row = &neomm__config_row[i];
        char *base = row->section == NEOMM__CONFIG_PROCESS ? (char *)&config->process_default
                                                           : (char *)config;
        if (row->section != NEOMM__CONFIG_CACHE)
            (void)neomm__config_read_value(row, row->key.default_text,
                                           text_length(row->key.default_text), base + row->offset,
                                           &error);
    }
}

void neomm__config_inherit(struct neomm_config *config)
{
    for (uint32_t i = 0; i < config->processes; i++) {
        struct neomm_config_process *process = &config->process[i];
        for (uint32_t r = 0; r < NEOMM__CONFIG_ROWS; r++) {
            const struct neomm__config_row *row = &neomm__config_row[r];
            if (row->section == NEOMM__CONFIG_PROCESS && !(process->set >> r & 1))
                memcpy((char *)process + row->offset,
                       (const char *)&config->process_default + row->offset,
                       sizeof(struct neomm_config_size));
        }
    }
}

static bool same_text(const char *a, const char *b)
{
    while (*a && *a == *b) {
        a++;
        b++;
    }
    return *a == *b;
}

const struct neomm_config_process *neomm_config_process(const struct neomm_config *config,
                                                        const char *name)
{
    for (uint32_t i = 0; name && i < config->processes; i++)
        if (same_text(config->process[i].name, name))
            return &config->process[i];
    return &config->process_default;
}

uint32_t neomm_config_cache_profile(const struct neomm_config *config, const char *name,
                                    uint32_t otherwise)
{
    for (uint32_t i = 0; i < config->caches; i++)
        if (config->cache[i].set != 0 && same_text(config->cache[i].name, name))
            return config->cache[i].profile;
    return otherwise;
}

uint64_t neomm_config_bytes(struct neomm_config_size size, uint64_t ram)
{
    uint32_t rest;
    if (size.percent == 0)
        return size.bytes;
    uint64_t hundredth = neomm__divide(ram, 100, &rest);
    return hundredth * size.percent + rest * size.percent / 100;
}

const struct neomm_config_key *neomm_config_key_at(uint32_t index)
{
    return index < NEOMM__CONFIG_ROWS ? &neomm__config_row[index].key : NULL;
}

struct dump {
    void (*line)(void *context, const char *text);
    void *context;
};

/* The rows of one section that are in `set`, under the section line `head`; `base`: the structure
 * that holds their values. */
static void dump_section(const struct dump *dump, enum neomm__config_section section,
                         const void *base, uint32_t set, const char *head)
{
    char line[NEOMM__LINE_MAX], value[40];
    dump->line(dump->context, head);
    for (uint32_t r = 0; r < NEOMM__CONFIG_ROWS; r++) {
        const struct neomm__config_row *row = &neomm__config_row[r];
        if (row->section != section || !(set >> r & 1))
            continue;
        neomm__config_print_value(row->type, (const char *)base + row->offset, value,
                                  sizeof(value));
        neomm__format(line, sizeof(line), "%s = %s", row->key.key, value);
        dump->line(dump->context, line);
    }
}

void neomm_config_dump(const struct neomm_config *config,
                       void (*line)(void *context, const char *text), void *context)
{
    const struct dump dump = {line, context};
    char head[NEOMM_CONFIG_NAME_MAX + 16];
    dump_section(&dump, NEOMM__CONFIG_MEMORY, config, UINT32_MAX, "[memory]");
    dump_section(&dump, NEOMM__CONFIG_SWAP, config, UINT32_MAX, "[swap]");
    dump_section(&dump, NEOMM__CONFIG_VMM, config, UINT32_MAX, "[vmm]");
    dump_section(&dump, NEOMM__CONFIG_HEAP, config, UINT32_MAX, "[heap]");
    for (uint32_t i = 0; i < config->caches; i++) {
        const struct neomm_config_cache *cache = &config->cache[i];
        neomm__format(head, sizeof(head), "[cache \"%s\"]", cache->name);
        dump_section(&dump, NEOMM__CONFIG_CACHE, cache, cache->set, head);
    }
    dump_section(&dump, NEOMM__CONFIG_PROCESS, &config->process_default, UINT32_MAX,
                 "[process.default]");
    for (uint32_t i = 0; i < config->processes; i++) {
        const struct neomm_config_process *process = &config->process[i];
        neomm__format(head, sizeof(head), "[process \"%s\"]", process->name);
        dump_section(&dump, NEOMM__CONFIG_PROCESS, process, process->set, head);
    }
}
