/* A machine with frames above the direct map.
 * SPDX-License-Identifier: MIT */
#include "high_machine.h"

#define RAM ((uint64_t)32 << 20)

static neomm_status start_pmm(struct high_machine *machine, const struct neomm_boot_range *image)
{
    struct neomm_boot_range storage[8];
    struct neomm_bootmap map;
    neomm_bootmap_init(&map, storage, 8);
    neomm_status status = neomm_bootmap_add(&map, 0, RAM, NEOMM_MEMORY_USABLE);
    if (status == NEOMM_OK)
        status = neomm_bootmap_add(&map, image->base, image->length, image->type);
    if (status == NEOMM_OK)
        status = neomm_bootmap_resolve(&map, 0, NULL, NULL);
    return status == NEOMM_OK ? neomm_pmm_init(machine->root, &map, NULL) : status;
}

static neomm_status start_paging(struct high_machine *machine, uint32_t flush_pages)
{
    const struct neomm_paging_options options = {.flush_pages = flush_pages};
    neomm_status status = neomm_paging_init(machine->root, &options);
    for (uint32_t cpu = machine->cpus; cpu-- > 0 && status == NEOMM_OK;) {
        sim_bind(machine->sim, cpu);
        status = neomm_paging_cpu_init(machine->root);
    }
    return status;
}

static neomm_status start(struct high_machine *machine, const struct high_options *options)
{
    struct neomm_options root = {.cpus = machine->cpus};
    struct neomm_boot_range image;
    size_t size = neomm_root_size(machine->cpus);
    void *memory = sim_image(machine->sim, size, &image);
    sim_layout(machine->sim, &root.layout);
    if (!options->all_direct)
        root.layout.direct.size /= 2;
    if (options->no_slots)
        root.layout.slots.size = 0;
    neomm_status status = memory ? neomm_init(memory, size, &root, &machine->root) : NEOMM_E_NOMEM;
    if (status == NEOMM_OK)
        status = start_pmm(machine, &image);
    if (status == NEOMM_OK && !options->no_paging)
        status = start_paging(machine, options->flush_pages);
    return status;
}

bool high_open(struct ktap *t, struct high_machine *machine, const struct high_options *options)
{
    const struct sim_options sim = {.format = options->format,
                                    .ram_bytes = RAM,
                                    .cpus = options->cpus ? options->cpus : 1,
                                    .absent = options->absent,
                                    .whims = options->whims,
                                    .seed = options->seed};
    machine->cpus = sim.cpus;
    machine->sim = sim_create(&sim);
    if (!machine->sim) {
        ktap_fail(t, __FILE__, __LINE__, "no machine");
        return false;
    }
    neomm_status status = start(machine, options);
    if (status == NEOMM_OK)
        return true;
    EXPECT_OK(t, status);
    sim_destroy(machine->sim);
    return false;
}

static void note_finding(void *context, const char *line)
{
    ktap_note(context, "fsck: %s", line);
}

void high_close(struct ktap *t, struct high_machine *machine)
{
    sim_fault_plan(machine->sim, 0, false);
    EXPECT_EQ(t, neomm_fsck(machine->root, note_finding, t), 0);
    if (neomm_paging_kernel(machine->root)) {
        for (uint32_t cpu = machine->cpus; cpu-- > 0;) {
            sim_bind(machine->sim, cpu);
            neomm_paging_cpu_fini(machine->root);
            neomm_cpu_write_cr4(neomm_cpu_read_cr4() & ~NEOMM_CR4_PGE);
            neomm_cpu_write_cr3(0);
        }
        EXPECT_OK(t, neomm_paging_fini(machine->root));
    }
    EXPECT_OK(t, neomm_pmm_fini(machine->root));
    EXPECT_OK(t, neomm_fini(machine->root));
    EXPECT_EQ(t, sim_check_end(machine->sim), 0);
    if (!sim_keeps_going(machine->sim))
        EXPECT_EQ(t, sim_violations(machine->sim), 0);
    sim_destroy(machine->sim);
}
