/* memory_manager.conf: the values, the table of keys, the parser.
 * SPDX-License-Identifier: MIT
 *
 * INI sections, `key = value`, whole-line # and ; comments and ` #` behind a value. The parser
 * takes a buffer, allocates nothing, reports every error as file:line:col, and never stops a
 * boot: a bad value keeps the default.
 */
#ifndef NEOMM_CONFIG_H
#define NEOMM_CONFIG_H

#include <neomm/types.h>

#define NEOMM_CONFIG_NAME_MAX  32
#define NEOMM_CONFIG_PROCESSES 16
#define NEOMM_CONFIG_CACHES    16
/* The most that a CPU may keep of the objects of a cache. */
#define NEOMM_CONFIG_MAGAZINE_MAX 128u

/* A size as configured: bytes, or a share of RAM in percent. */
struct neomm_config_size {
    uint64_t bytes;   /* UINT64_MAX: unlimited */
    uint32_t percent; /* 0: bytes counts */
};

struct neomm_config_process {
    char name[NEOMM_CONFIG_NAME_MAX]; /* empty in the default's */
    struct neomm_config_size virtual_limit, resident_limit, swap_limit, locked_limit;
    uint32_t set; /* bit n: the section has row n of the key table; others inherit */
};

/* What neomm_heap_init and neomm_heap_configure make of it is said in heap.h and heap_debug.h. */
struct neomm_config_heap {
    uint32_t profile;               /* enum neomm_heap_profile */
    uint32_t sampling;              /* interval of guarded objects, 0: none */
    uint32_t magazine;              /* objects of a cache that a CPU keeps, at most */
    struct neomm_config_size limit; /* of what slabs and large blocks hold */
    bool call_sites, fine_classes;
};

/* [swap] compression: what makes pages smaller that leave memory. */
enum neomm_compression {
    NEOMM_COMPRESSION_OFF,
    NEOMM_COMPRESSION_LZ4,
    NEOMM_COMPRESSION_DENSE,
    NEOMM_COMPRESSIONS
};

struct neomm_config_cache {
    char name[NEOMM_CONFIG_NAME_MAX];
    uint32_t profile; /* enum neomm_heap_profile */
    uint32_t set;     /* as in a process section */
};

struct neomm_config {
    struct neomm_config_size reserve;    /* [memory] reserve */
    bool zero_page;                      /* [memory] zero_page */
    char policy[NEOMM_CONFIG_NAME_MAX];  /* [swap] policy */
    uint32_t policy_window;              /* [swap] policy_window, percent */
    uint32_t policy_count;               /* [swap] policy_count */
    uint32_t policy_tick;                /* [swap] policy_tick, percent */
    uint32_t readahead;                  /* [swap] readahead, pages, 0: off */
    uint32_t compression;                /* [swap] compression: enum neomm_compression */
    struct neomm_config_size pool_limit; /* [swap] pool_limit */
    bool encryption;                     /* [swap] encryption */
    uint32_t overcommit;                 /* [vmm] overcommit: enum neomm_overcommit */
    bool aslr;                           /* [vmm] aslr */
    uint32_t huge;                       /* [vmm] huge: enum neomm_huge */
    uint32_t idle_after;                 /* [vmm] idle_after, seconds, 0: never */
    struct neomm_config_heap heap;
    uint32_t caches;
    struct neomm_config_cache cache[NEOMM_CONFIG_CACHES];
    struct neomm_config_process process_default;
    uint32_t processes;
    struct neomm_config_process process[NEOMM_CONFIG_PROCESSES];
};

/* One row of the key table. */
struct neomm_config_key {
    const char *section; /* "memory", "swap", "vmm", "heap", "cache", "process" */
    const char *key;
    const char *type; /* "size", "number", "bool", "name", "profile", "overcommit", "where",
                       * "codec" */
    const char *default_text;
    const char *help;
};

enum neomm_config_level { NEOMM_CONFIG_WARNING, NEOMM_CONFIG_ERROR };

/* One message, "name:line:col: error: ..." without a newline. */
typedef void neomm_config_message_fn(void *context, enum neomm_config_level level,
                                     const char *text);

NEOMM_EXTERN_C_BEGIN

void neomm_config_default(struct neomm_config *config);

/* Reads `length` bytes at `text` (no NUL needed) over what *config holds. `name` stands in the
 * messages. Returns the number of messages; *errors (may be NULL) of them are errors. Strict: what
 * is a warning otherwise (an unknown key or section, something given twice) is an error. */
uint32_t neomm_config_parse(struct neomm_config *config, const char *name, const char *text,
                            size_t length, bool strict, neomm_config_message_fn *message,
                            void *context, uint32_t *errors);

/* The limits for a process of this name: its section, else the default's. */
const struct neomm_config_process *neomm_config_process(const struct neomm_config *config,
                                                        const char *name);

/* The profile (enum neomm_heap_profile) for a cache of this name: its section's, else `otherwise`.
 */
uint32_t neomm_config_cache_profile(const struct neomm_config *config, const char *name,
                                    uint32_t otherwise);

/* The bytes of a configured size on a machine with `ram` bytes. */
uint64_t neomm_config_bytes(struct neomm_config_size size, uint64_t ram);

/* The n-th row of the key table, NULL behind the last. */
const struct neomm_config_key *neomm_config_key_at(uint32_t index);

/* Calls line for each key with its value now, as the file would say it, section lines first. */
void neomm_config_dump(const struct neomm_config *config,
                       void (*line)(void *context, const char *text), void *context);

NEOMM_EXTERN_C_END

#endif
