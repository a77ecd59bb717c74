/* A frame allocator of its own for a test, and the model of it.
 * SPDX-License-Identifier: MIT */
#include "pmm_world.h"

#include "base/bits.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define MANY 1000000u

uint64_t world_random(uint64_t *seed)
{
    return neomm__mix(*seed += 0x9e3779b97f4a7c15u);
}

uint32_t world_below(uint64_t *seed, uint32_t limit)
{
    return (uint32_t)world_random(seed) % limit;
}

/* ---- slots: frames above the shortened direct map, through the whole one ---- */

static struct world *world_of; /* the slot functions are given a root only */

static void *map_slot(struct neomm *root, neomm_frame_t frame)
{
    const struct neomm_area *direct = &world_of->layout.direct;
    (void)root;
    if (world_of->slots_free == 0)
        return NULL;
    world_of->slots_free--;
    return (void *)(direct->base + (neomm_vaddr_t)neomm_frame_paddr(frame) +
                    (neomm_vaddr_t)direct->delta);
}

static void unmap_slot(struct neomm *root, void *pointer)
{
    (void)root;
    (void)pointer;
    world_of->slots_free++;
}

/* ---- opening ---- */

static bool open_root(struct world *world)
{
    struct neomm_config config;
    struct neomm_options options = {.cpus = world->options.cpus, .config = &config};
    struct neomm_boot_range image;
    neomm_config_default(&config);
    config.reserve = world->options.reserve;
    sim_layout(world->sim, &options.layout);
    world->layout = options.layout;
    if (world->options.direct_bytes != 0)
        options.layout.direct.size = (size_t)world->options.direct_bytes;
    size_t size = neomm_root_size(options.cpus);
    void *memory = sim_image(world->sim, size, &image);
    if (!memory || neomm_init(memory, size, &options, &world->root) != NEOMM_OK)
        return false;
    neomm_bootmap_init(&world->map, world->ranges, WORLD_RANGES);
    bool added = neomm_bootmap_add(&world->map, image.base, image.length, image.type) == NEOMM_OK;
    for (uint32_t i = 0; i < world->options.map_count; i++) {
        const struct neomm_boot_range *range = &world->options.map[i];
        added &=
            neomm_bootmap_add(&world->map, range->base, range->length, range->type) == NEOMM_OK;
    }
    return added && neomm_bootmap_resolve(&world->map, 0, NULL, NULL) == NEOMM_OK;
}

/* Where the library must put its metadata: at the top of the highest range with room. */
static void model_metadata(struct world *world)
{
    uint32_t frames = (uint32_t)neomm__pages(world->metadata_size);
    uint64_t direct = world->root->layout.direct.size >> NEOMM_PAGE_SHIFT;
    for (uint32_t i = world->map.count; i-- > 0;) {
        uint64_t first = world->ranges[i].base >> NEOMM_PAGE_SHIFT;
        uint64_t end = first + (world->ranges[i].length >> NEOMM_PAGE_SHIFT);
        end = end < direct ? end : direct;
        if (world->ranges[i].type != NEOMM_MEMORY_USABLE || end < first + frames)
            continue;
        world_mark(world, (uint32_t)end - frames, frames, WORLD_OTHER);
        return;
    }
}

/* Memory that may come is none yet, but frames up to its end have a zone. */
static enum world_state state_of(enum neomm_memory_type type)
{
    if (type == NEOMM_MEMORY_HOTPLUG)
        return WORLD_NONE;
    return type == NEOMM_MEMORY_USABLE ? WORLD_FREE : WORLD_OTHER;
}

static void make_model(struct world *world)
{
    uint64_t direct = world->root->layout.direct.size >> NEOMM_PAGE_SHIFT;
    memset(world->state, WORLD_NONE, sizeof(world->state));
    world->frames = 0;
    for (uint32_t i = 0; i < world->map.count; i++) {
        const struct neomm_boot_range *range = &world->ranges[i];
        uint32_t first = (uint32_t)(range->base >> NEOMM_PAGE_SHIFT);
        uint32_t count = (uint32_t)(range->length >> NEOMM_PAGE_SHIFT);
        world_mark(world, first, count, state_of(range->type));
        if (range->type <= NEOMM_MEMORY_ACPI)
            world->frames = first + count;
    }
    uint32_t high =
        direct < world->frames ? (uint32_t)direct & ~((1u << NEOMM_ORDER_MAX) - 1) : world->frames;
    world->border[NEOMM_ZONE_DMA] = high < 4096 ? high : 4096;
    world->border[NEOMM_ZONE_NORMAL] = high;
    world->border[NEOMM_ZONE_HIGH] = world->frames;
    if (world->options.carve)
        model_metadata(world);
}

/* Mapped, not allocated: that of a large machine is hardly touched. */
void world_take_metadata(struct world *world, size_t size)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    world->metadata = memory == MAP_FAILED ? NULL : memory;
    world->mapped = size;
}

void world_give_metadata(struct world *world)
{
    if (world->metadata)
        (void)munmap(world->metadata, world->mapped);
    world->metadata = NULL;
}

bool world_open(struct ktap *t, struct world *world, const struct world_options *options)
{
    const struct sim_options machine = {.format = UINTPTR_MAX > 0xffffffffu ? NEOMM_FORMAT_4LEVEL
                                                                            : NEOMM_FORMAT_PAE,
                                        .ram_bytes = options->ram_bytes,
                                        .cpus = options->cpus ? options->cpus : 1,
                                        .seed = t->parameter};
    memset(world, 0, sizeof(*world));
    world->options = *options;
    world->options.cpus = machine.cpus;
    world->sim = sim_create(&machine);
    if (!world->sim || !open_root(world)) {
        ktap_fail(t, __FILE__, __LINE__, "the world did not start");
        return false;
    }
    world->metadata_size = neomm_pmm_metadata_size(world->root, &world->map);
    if (!options->carve)
        world_take_metadata(world, world->metadata_size);
    world->pmm = (struct neomm_pmm_options){.metadata = world->metadata,
                                            .metadata_size = world->metadata_size,
                                            .reserve_frames = options->reserve_frames};
    world->slots_free = MANY;
    world_of = world;
    if (options->slots) {
        world->root->slots.map = map_slot;
        world->root->slots.unmap = unmap_slot;
    }
    make_model(world);
    if (!options->without_pmm)
        EXPECT_OK(t, neomm_pmm_init(world->root, &world->map, &world->pmm));
    return true;
}

static void note_finding(void *context, const char *line)
{
    ktap_note(context, "fsck: %s", line);
}

void world_fsck(struct ktap *t, struct world *world)
{
    EXPECT_EQ(t, neomm_fsck(world->root, note_finding, t), 0);
}

void world_close(struct ktap *t, struct world *world)
{
    world_fsck(t, world);
    if (world->root->pmm)
        EXPECT_OK(t, neomm_pmm_fini(world->root));
    EXPECT_OK(t, neomm_fini(world->root));
    EXPECT_EQ(t, sim_check_end(world->sim), 0);
    EXPECT_EQ(t, world->slots_free, MANY);
    sim_destroy(world->sim);
    world_give_metadata(world);
}

/* ---- the model ---- */

uint32_t world_count(const struct world *world, uint32_t first, uint32_t end,
                     enum world_state state)
{
    uint32_t count = 0;
    for (uint32_t i = first; i < end; i++)
        count += world->state[i] == state;
    return count;
}

bool world_is_free(const struct world *world, uint32_t first, uint32_t count)
{
    if (first > world->frames || count > world->frames - first)
        return false;
    for (uint32_t i = first; i < first + count; i++)
        if (world->state[i] != WORLD_FREE)
            return false;
    return true;
}

void world_mark(struct world *world, uint32_t first, uint32_t count, enum world_state state)
{
    if (first < WORLD_FRAMES)
        memset(world->state + first, (int)state,
               count < WORLD_FRAMES - first ? count : WORLD_FRAMES - first);
}

uint32_t world_zone_first(const struct world *world, int zone)
{
    return zone == NEOMM_ZONE_DMA ? 0 : world->border[zone - 1];
}

uint32_t world_blocks(const struct world *world, int zone, unsigned order)
{
    uint32_t size = 1u << order, blocks = 0;
    uint32_t at = NEOMM__ALIGN_UP(world_zone_first(world, zone), size);
    for (; at + size <= world->border[zone]; at += size)
        blocks += world_is_free(world, at, size);
    return blocks;
}

void world_compare(struct ktap *t, struct world *world)
{
    uint64_t all = 0;
    for (int zone = 0; zone < NEOMM_ZONES; zone++) {
        struct neomm_zone_stats stats;
        uint32_t first = world_zone_first(world, zone), end = world->border[zone];
        neomm_pmm_zone_stats(world->root, (enum neomm_zone)zone, &stats);
        EXPECT_EQ(t, stats.free, world_count(world, first, end, WORLD_FREE));
        EXPECT_EQ(t, stats.used, world_count(world, first, end, WORLD_USED));
        EXPECT_EQ(t, stats.reserved + stats.metadata, world_count(world, first, end, WORLD_OTHER));
        EXPECT_EQ(t, stats.total, stats.free + stats.used + stats.reserved + stats.metadata);
        for (unsigned order = 0; order <= NEOMM_ORDER_MAX; order++) {
            uint32_t above = order < NEOMM_ORDER_MAX ? 2 * world_blocks(world, zone, order + 1) : 0;
            EXPECT_EQ(t, stats.free_runs[order], world_blocks(world, zone, order) - above);
        }
        all += stats.free;
    }
    EXPECT_EQ(t, neomm_pmm_free_frames(world->root), all);
}
