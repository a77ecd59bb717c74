/* Page tables built by hand in a simulated machine, for the tests of its MMU: from the manual's
 * figures alone, with nothing of src/paging or sim/mmu*.c.
 * SPDX-License-Identifier: MIT */
#ifndef NEOMM_TEST_SIM_TABLES_H
#define NEOMM_TEST_SIM_TABLES_H

#include "ktap.h"

#include "sim/machine.h"

#include <neomm/cpu.h>

/* Bits of entries. */
#define E_P  ((uint64_t)1 << 0)
#define E_W  ((uint64_t)1 << 1)
#define E_U  ((uint64_t)1 << 2)
#define E_A  ((uint64_t)1 << 5)
#define E_D  ((uint64_t)1 << 6)
#define E_PS ((uint64_t)1 << 7)
#define E_G  ((uint64_t)1 << 8)
#define E_NX ((uint64_t)1 << 63)

/* A machine with 16 MiB of RAM: tables are made from 1 MiB up, and pages from LEAVES up are the
 * test's to map. */
#define BENCH_RAM    ((uint64_t)16 << 20)
#define BENCH_TABLES ((neomm_paddr_t)1 << 20)
#define BENCH_LEAVES ((neomm_paddr_t)8 << 20)

struct bench {
    struct sim *sim;
    enum neomm_format format;
    neomm_paddr_t top; /* loaded on every CPU */
    neomm_paddr_t next_table;
};

/* A machine with empty tables loaded; WP, NXE, PSE and PGE on, SMEP and SMAP off. Violations are
 * counted. options may be NULL. */
bool bench_open(struct ktap *t, struct bench *bench, enum neomm_format format,
                const struct sim_options *options);
/* Violations that the test has not taken (bench_violations) are failures. */
void bench_close(struct ktap *t, struct bench *bench);
/* Violations since the last call. */
unsigned bench_violations(struct bench *bench);

neomm_paddr_t bench_table(struct bench *bench);
uint64_t bench_load(const struct bench *bench, neomm_paddr_t entry);
/* Stores an entry, and tells so as the library does. */
void bench_store(const struct bench *bench, neomm_paddr_t entry, uint64_t value);

/* Bits of an address below those that select an entry of this level; the highest level. */
unsigned bench_shift(enum neomm_format format, unsigned level);
unsigned bench_top_level(enum neomm_format format);
/* Where the entry of this level for vaddr lies, under the given root. Tables on the way are made,
 * with all rights; 0: there is a leaf on the way. */
neomm_paddr_t bench_entry(struct bench *bench, neomm_paddr_t top, neomm_vaddr_t vaddr,
                          unsigned level);
/* A leaf of that level under bench->top: flags and PS as needed are added to paddr. */
void bench_map(struct bench *bench, neomm_vaddr_t vaddr, unsigned level, neomm_paddr_t paddr,
               uint64_t flags);
/* The levels at which the format has leaves: 1 to this. */
unsigned bench_leaf_levels(enum neomm_format format);

/* Makes every CPU load these tables. */
void bench_activate(struct bench *bench, neomm_paddr_t top);
/* Invalidates on every CPU, as a shootdown does. */
void bench_invalidate(const struct bench *bench, neomm_vaddr_t vaddr);
void bench_settled(const struct bench *bench, neomm_paddr_t top, enum neomm_flush_site site);
void bench_frames_freed(const struct bench *bench, neomm_paddr_t first, uint32_t count);
void bench_frames_allocated(const struct bench *bench, neomm_paddr_t first, uint32_t count);

/* Returned for an access that translates; else the error code. */
#define BENCH_DONE 0xffff0000u
uint32_t bench_access(const struct bench *bench, neomm_vaddr_t vaddr, enum sim_access access,
                      bool user, neomm_paddr_t *paddr);

static inline bool bench_is_long(enum neomm_format format)
{
    return format == NEOMM_FORMAT_4LEVEL || format == NEOMM_FORMAT_5LEVEL;
}

#endif
