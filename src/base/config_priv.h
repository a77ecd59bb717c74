/* The table behind memory_manager.conf, for its parser and its dump.
 * SPDX-License-Identifier: MIT */
#ifndef NEOMM_BASE_CONFIG_PRIV_H
#define NEOMM_BASE_CONFIG_PRIV_H

#include <neomm/config.h>

enum neomm__config_type {
    NEOMM__CONFIG_SIZE,       /* struct neomm_config_size */
    NEOMM__CONFIG_LIMIT,      /* the same, and it may be unlimited */
    NEOMM__CONFIG_BOOL,       /* bool */
    NEOMM__CONFIG_NAME,       /* char[NEOMM_CONFIG_NAME_MAX] */
    NEOMM__CONFIG_NUMBER,     /* uint32_t, from `least` to `most` */
    NEOMM__CONFIG_PROFILE,    /* uint32_t: enum neomm_heap_profile */
    NEOMM__CONFIG_OVERCOMMIT, /* uint32_t: enum neomm_overcommit */
    NEOMM__CONFIG_WHERE,      /* uint32_t: enum neomm_huge */
    NEOMM__CONFIG_CODEC       /* uint32_t: enum neomm_compression */
};

/* Those from CACHE on are of things that have names; a process without a section of its own has the
 * default's. */
enum neomm__config_section {
    NEOMM__CONFIG_MEMORY,
    NEOMM__CONFIG_SWAP,
    NEOMM__CONFIG_VMM,
    NEOMM__CONFIG_HEAP,
    NEOMM__CONFIG_CACHE,
    NEOMM__CONFIG_PROCESS,
    NEOMM__CONFIG_SECTIONS
};

struct neomm__config_row {
    struct neomm_config_key key;
    enum neomm__config_section section;
    enum neomm__config_type type;
    size_t offset; /* in neomm_config, for PROCESS and CACHE in their own structures */
    uint32_t least, most;
};

#define NEOMM__CONFIG_ROWS 25

extern const struct neomm__config_row neomm__config_row[NEOMM__CONFIG_ROWS];

/* What is wrong with a value. */
struct neomm__config_error {
    size_t at; /* offset of the offence in the value */
    char text[96];
};

/* Reads a value into *field, which is unchanged on failure. */
bool neomm__config_read_value(const struct neomm__config_row *row, const char *text, size_t length,
                              void *field, struct neomm__config_error *error);

/* Writes a value as the file would say it: fewer than 40 bytes and a NUL. */
void neomm__config_print_value(enum neomm__config_type type, const void *field, char *to,
                               size_t size);

/* Gives every key that a process section does not set the default section's value. */
void neomm__config_inherit(struct neomm_config *config);

#endif
