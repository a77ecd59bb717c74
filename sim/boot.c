/* A system on a simulated machine.
 * SPDX-License-Identifier: MIT */
#include "sim/boot.h"

#include <neomm/heap_debug.h>

#include <stdlib.h>
#include <string.h>

#define RANGES_EXTRA 16u
#define ZEROED_RAM   ((uint64_t)1 << 30)

/* The firmware's map and the kernel's image, resolved; the storage is the caller's to free. */
static neomm_status make_map(const struct sim_system_options *options,
                             const struct neomm_boot_range *image, struct neomm_bootmap *map)
{
    struct neomm_boot_range all = {0, options->machine.ram_bytes, NEOMM_MEMORY_USABLE};
    const struct neomm_boot_range *ranges = options->map ? options->map : &all;
    uint32_t count = options->map ? options->map_count : 1;
    uint32_t capacity = 3 * count + RANGES_EXTRA;
    struct neomm_boot_range *storage = calloc(capacity, sizeof(*storage));
    if (!storage)
        return NEOMM_E_NOMEM;
    neomm_bootmap_init(map, storage, capacity);
    neomm_status status = neomm_bootmap_add(map, image->base, image->length, image->type);
    for (uint32_t i = 0; i < count && status == NEOMM_OK; i++)
        status = neomm_bootmap_add(map, ranges[i].base, ranges[i].length, ranges[i].type);
    return status == NEOMM_OK ? neomm_bootmap_resolve(map, 0, NULL, NULL) : status;
}

static neomm_status start_root(struct sim_system *system, const struct sim_system_options *options,
                               struct neomm_boot_range *image)
{
    struct neomm_options root = {.cpus = system->cpus, .config = options->config};
    size_t size = neomm_root_size(system->cpus);
    system->sim = sim_create(&options->machine);
    if (!system->sim || size == 0)
        return NEOMM_E_NOMEM;
    void *memory = sim_image(system->sim, size, image);
    if (!memory)
        return NEOMM_E_NOMEM;
    sim_layout(system->sim, &root.layout);
    neomm_status status = neomm_init(memory, size, &root, &system->root);
    if (status == NEOMM_OK)
        sim_set_root(system->sim, system->root);
    return status;
}

static neomm_status start_pmm(struct sim_system *system, const struct sim_system_options *options,
                              const struct neomm_boot_range *image)
{
    /* New RAM of the machine is zero; a small one keeps that to itself. */
    struct neomm_pmm_options pmm = {.metadata_zeroed = options->metadata ||
                                                       options->machine.ram_bytes > ZEROED_RAM};
    struct neomm_bootmap map = {0};
    neomm_status status = make_map(options, image, &map);
    if (status == NEOMM_OK && options->metadata) {
        pmm.metadata_size = neomm_pmm_metadata_size(system->root, &map);
        pmm.metadata = options->metadata(pmm.metadata_size);
        status = pmm.metadata ? NEOMM_OK : NEOMM_E_NOMEM;
    }
    if (status == NEOMM_OK)
        status = neomm_pmm_init(system->root, &map, &pmm);
    free(map.ranges);
    return status;
}

/* Each CPU goes back to the tables it started with, whose frames are not the library's, and
 * forgets global translations too. */
static neomm_status end_paging(struct sim_system *system)
{
    for (uint32_t cpu = system->cpus; cpu-- > 0;) {
        sim_bind(system->sim, cpu);
        neomm_paging_cpu_fini(system->root);
        neomm_cpu_write_cr4(neomm_cpu_read_cr4() & ~NEOMM_CR4_PGE);
        neomm_cpu_write_cr3(0);
    }
    return neomm_paging_fini(system->root);
}

static neomm_status start_paging(struct sim_system *system)
{
    neomm_status status = neomm_paging_init(system->root, NULL);
    if (status != NEOMM_OK)
        return status;
    for (uint32_t cpu = system->cpus; cpu-- > 0 && status == NEOMM_OK;) {
        sim_bind(system->sim, cpu);
        status = neomm_paging_cpu_init(system->root);
    }
    if (status != NEOMM_OK)
        (void)end_paging(system);
    return status;
}

static neomm_status start_heap(struct sim_system *system)
{
    const struct neomm_heap_options options = {.source = &system->direct,
                                               .large_source = &system->window};
    neomm_heap_source_direct(system->root, &system->direct);
    neomm_heap_source_window(system->root, &system->window);
    neomm_status status = neomm_heap_init(system->root, &options);
    if (status == NEOMM_OK)
        (void)neomm_heap_configure(system->root); /* what it cannot do it logs */
    return status;
}

static neomm_status start_swap(struct sim_system *system, const struct sim_system_options *options)
{
    neomm_status status = neomm_swap_init(system->root);
    if (status != NEOMM_OK || options->swap_pages == 0)
        return status;
    system->disk = sim_disk_create(system->sim, options->swap_pages);
    if (system->disk) {
        sim_disk_make_swap(system->disk);
        status = neomm_swap_add(system->root, system->disk, 0);
    }
    if (!system->disk || status != NEOMM_OK)
        (void)neomm_swap_fini(system->root);
    return system->disk ? status : NEOMM_E_NOMEM;
}

static neomm_status start_layer(struct sim_system *system, const struct sim_system_options *options,
                                enum sim_layer layer, struct neomm_boot_range *image)
{
    switch (layer) {
    case SIM_LAYER_ROOT:
        system->step = "root";
        return start_root(system, options, image);
    case SIM_LAYER_PMM:
        system->step = "pmm";
        return start_pmm(system, options, image);
    case SIM_LAYER_PAGING:
        system->step = "paging";
        return start_paging(system);
    case SIM_LAYER_HEAP:
        system->step = "heap";
        return start_heap(system);
    case SIM_LAYER_SWAP:
        system->step = "swap";
        return start_swap(system, options);
    default:
        system->step = "vmm";
        if (options->prepare) {
            neomm_status status = options->prepare(system->root);
            if (status != NEOMM_OK)
                return status;
        }
        return neomm_vmm_init(system->root, options->vmm);
    }
}

neomm_status sim_system_start(struct sim_system *system, const struct sim_system_options *options)
{
    struct neomm_boot_range image;
    memset(system, 0, sizeof(*system));
    system->cpus = options->machine.cpus ? options->machine.cpus : 1;
    for (enum sim_layer layer = SIM_LAYER_ROOT; layer <= options->layer; layer++) {
        neomm_status status = start_layer(system, options, layer, &image);
        if (status != NEOMM_OK) {
            const char *step = system->step;
            if (layer != SIM_LAYER_ROOT)
                (void)sim_system_end_layers(system);
            if (system->sim)
                sim_destroy(system->sim);
            memset(system, 0, sizeof(*system));
            system->step = step;
            return status;
        }
        system->layer = layer;
    }
    return NEOMM_OK;
}

static neomm_status end_layer(struct sim_system *system, enum sim_layer layer)
{
    switch (layer) {
    case SIM_LAYER_ROOT:
        system->step = "root";
        return neomm_fini(system->root);
    case SIM_LAYER_PMM:
        system->step = "pmm";
        return neomm_pmm_fini(system->root);
    case SIM_LAYER_PAGING:
        system->step = "paging";
        return end_paging(system);
    case SIM_LAYER_HEAP:
        system->step = "heap";
        return neomm_heap_fini(system->root);
    case SIM_LAYER_SWAP:
        system->step = "swap";
        return neomm_swap_fini(system->root);
    default:
        system->step = "vmm";
        return neomm_vmm_fini(system->root);
    }
}

neomm_status sim_system_end_layers(struct sim_system *system)
{
    for (int layer = (int)system->layer; layer >= 0; layer--) {
        neomm_status status = end_layer(system, (enum sim_layer)layer);
        if (status != NEOMM_OK)
            return status;
    }
    return NEOMM_OK;
}

neomm_status sim_system_stop(struct sim_system *system)
{
    neomm_status status = sim_system_end_layers(system);
    sim_destroy(system->sim);
    system->sim = NULL;
    return status;
}
