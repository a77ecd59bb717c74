/* A frame allocator of its own for a test: any map, any border of the direct map, over the RAM of
 * a simulated machine; and a model of it, one byte a frame.
 * SPDX-License-Identifier: MIT */
#ifndef NEOMM_TEST_PMM_WORLD_H
#define NEOMM_TEST_PMM_WORLD_H

#include "env.h"

#include "base/root.h"
#include "sim/sim.h"

#define WORLD_RANGES 64
#define WORLD_FRAMES ((uint32_t)1 << 18)

enum world_state { WORLD_NONE, WORLD_FREE, WORLD_USED, WORLD_OTHER };

struct world_options {
    uint64_t ram_bytes;
    const struct neomm_boot_range *map;
    uint32_t map_count;
    uint64_t direct_bytes; /* the direct map ends here; 0: as the layout says */
    bool slots;            /* frames above it can be mapped */
    bool carve;            /* the metadata comes out of the map */
    uint32_t cpus;         /* 0: 1 */
    uint32_t reserve_frames;
    struct neomm_config_size reserve; /* of the configuration */
    bool without_pmm;                 /* the caller initialises it */
};

struct world {
    struct world_options options;
    struct sim *sim;
    struct neomm *root;
    struct neomm_boot_range ranges[WORLD_RANGES];
    struct neomm_bootmap map;
    struct neomm_pmm_options pmm;
    struct neomm_layout layout; /* with the whole direct map */
    void *metadata;
    size_t metadata_size;
    size_t mapped;                /* bytes at `metadata` */
    uint32_t slots_free;          /* what the world's slots can still map */
    uint32_t frames;              /* of the model */
    uint32_t border[NEOMM_ZONES]; /* where the zones end */
    uint8_t state[WORLD_FRAMES];
};

/* False: noted in t. The world is static or on the heap: it is large. */
/* Other memory for the metadata, before the allocator is initialised: give back what there is
 * first. */
void world_take_metadata(struct world *world, size_t size);
void world_give_metadata(struct world *world);
bool world_open(struct ktap *t, struct world *world, const struct world_options *options);
/* Consistency check, leak check, end. */
void world_close(struct ktap *t, struct world *world);

void world_fsck(struct ktap *t, struct world *world);
uint64_t world_random(uint64_t *seed);
uint32_t world_below(uint64_t *seed, uint32_t limit);

/* ---- the model ---- */

/* Frames of this state in [first, end). */
uint32_t world_count(const struct world *world, uint32_t first, uint32_t end,
                     enum world_state state);
bool world_is_free(const struct world *world, uint32_t first, uint32_t count);
void world_mark(struct world *world, uint32_t first, uint32_t count, enum world_state state);
/* The first frame of zone `zone`. */
uint32_t world_zone_first(const struct world *world, int zone);
/* The model's number of free aligned blocks of 2^order frames in a zone. */
uint32_t world_blocks(const struct world *world, int zone, unsigned order);
/* All zones' statistics and the number of free frames against the model. */
void world_compare(struct ktap *t, struct world *world);

#endif
