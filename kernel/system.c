/* Starting and ending the layers of one instance of the memory manager, in their order.
 * SPDX-License-Identifier: MIT
 */
#include "system.h"

#include "kernel.h"

#include <neomm/heap_debug.h>

static neomm_status start_root(struct system *system, const struct system_options *options)
{
    const struct neomm_options root = {*options->layout, 1, options->config};
    system->step = "root";
    return neomm_init(system->memory, sizeof(system->memory), &root, &system->root);
}

static neomm_status start_pmm(struct system *system, const struct system_options *options)
{
    system->step = "pmm";
    return neomm_pmm_init(system->root, options->map, NULL);
}

static struct neomm_kernel_segment segment(const char *from, const char *to, neomm_prot_t prot)
{
    return (struct neomm_kernel_segment){(neomm_vaddr_t)from, image_physical(from),
                                         (size_t)(to - from), prot};
}

/* The image in its parts; the page below the stack stays unmapped. */
static neomm_status init_paging(struct neomm *root)
{
    const neomm_prot_t r = NEOMM_PROT_READ, rw = r | NEOMM_PROT_WRITE, rx = r | NEOMM_PROT_EXEC;
    const struct neomm_kernel_segment segments[] = {
        segment(image_text, image_text_end, rx),
        segment(image_rodata, image_rodata_end, r),
        segment(image_data, image_data_end, rw),
        segment(image_stack, image_stack_end, rw),
    };
    const struct neomm_paging_options options = {
        .segments = segments, .segment_count = sizeof(segments) / sizeof(segments[0])};
    return neomm_paging_init(root, &options);
}

static neomm_status start_paging(struct system *system)
{
    system->step = "paging";
    neomm_status status = init_paging(system->root);
    if (status != NEOMM_OK)
        return status;
    neomm_irq_t irq = neomm_port_irq_save();
    system->tables_before = neomm_cpu_read_cr3();
    status = neomm_paging_cpu_init(system->root);
    neomm_port_irq_restore(irq);
    return status;
}

/* Back to the tables before; without PGE for a moment, since kernel translations are global. */
static void leave_tables(struct system *system)
{
    neomm_irq_t irq = neomm_port_irq_save();
    uintptr_t cr4 = neomm_cpu_read_cr4();
    neomm_paging_cpu_fini(system->root);
    neomm_cpu_write_cr4(cr4 & ~NEOMM_CR4_PGE);
    neomm_cpu_write_cr3(system->tables_before);
    neomm_cpu_write_cr4(cr4);
    neomm_port_irq_restore(irq);
}

static neomm_status stop_paging(struct system *system)
{
    system->step = "paging";
    leave_tables(system);
    return neomm_paging_fini(system->root);
}

static neomm_status start_heap(struct system *system)
{
    const struct neomm_heap_options options = {.source = &system->direct,
                                               .large_source = &system->window};
    system->step = "heap";
    neomm_heap_source_direct(system->root, &system->direct);
    neomm_heap_source_window(system->root, &system->window);
    neomm_status status = neomm_heap_init(system->root, &options);
    if (status == NEOMM_OK)
        (void)neomm_heap_configure(system->root); /* what it cannot do it logs */
    return status;
}

static neomm_status add_virtio(struct system *system)
{
    neomm_status status = virtio_blk_open(&system->virtio, system->root);
    return status == NEOMM_OK ? neomm_swap_add(system->root, &system->virtio.device, 0) : status;
}

static neomm_status add_disk(struct system *system, const struct system_options *options)
{
    void *memory = options->disk_memory;
    if (!memory) {
        system->disk_block = neomm_kmalloc(system->root, options->disk_pages * NEOMM_PAGE_SIZE, 0);
        memory = system->disk_block;
    }
    if (!memory)
        return NEOMM_E_NOMEM;
    ramdisk_open(&system->disk, system->root, memory, options->disk_pages);
    return neomm_swap_add(system->root, &system->disk.device, 0);
}

static void close_disks(struct system *system)
{
    ramdisk_close(&system->disk);
    virtio_blk_close(&system->virtio);
}

static neomm_status stop_swap(struct system *system)
{
    system->step = "swap";
    neomm_status status = neomm_swap_fini(system->root);
    if (status != NEOMM_OK)
        return status;
    close_disks(system);
    status = neomm_kfree(system->root, system->disk_block);
    system->disk_block = NULL;
    return status;
}

static neomm_status start_swap(struct system *system, const struct system_options *options)
{
    system->step = "swap";
    neomm_status status = neomm_swap_init(system->root);
    if (status != NEOMM_OK || options->disk_pages == 0)
        return status;
    status = options->virtio ? add_virtio(system) : add_disk(system, options);
    if (status != NEOMM_OK)
        (void)stop_swap(system);
    return status;
}

static neomm_status start_layer(struct system *system, const struct system_options *options,
                                enum system_layer layer)
{
    switch (layer) {
    case SYSTEM_NOTHING:
        return NEOMM_OK;
    case SYSTEM_ROOT:
        return start_root(system, options);
    case SYSTEM_PMM:
        return start_pmm(system, options);
    case SYSTEM_PAGING:
        return start_paging(system);
    case SYSTEM_HEAP:
        return start_heap(system);
    case SYSTEM_SWAP:
        return start_swap(system, options);
    case SYSTEM_VMM:
        break;
    }
    system->step = "vmm";
    return neomm_vmm_init(system->root, options->vmm);
}

static neomm_status stop_layer(struct system *system)
{
    switch (system->layer) {
    case SYSTEM_NOTHING:
        return NEOMM_OK;
    case SYSTEM_ROOT:
        system->step = "root";
        return neomm_fini(system->root);
    case SYSTEM_PMM:
        system->step = "pmm";
        return neomm_pmm_fini(system->root);
    case SYSTEM_PAGING:
        return stop_paging(system);
    case SYSTEM_HEAP:
        system->step = "heap";
        return neomm_heap_fini(system->root);
    case SYSTEM_SWAP:
        return stop_swap(system);
    case SYSTEM_VMM:
        break;
    }
    system->step = "vmm";
    return neomm_vmm_fini(system->root);
}

neomm_status system_start(struct system *system, const struct system_options *options)
{
    *system = (struct system){0};
    while (system->layer < options->layer) {
        neomm_status status = start_layer(system, options, system->layer + 1);
        if (status != NEOMM_OK) {
            const char *step = system->step;
            (void)system_stop(system, SYSTEM_NOTHING);
            system->step = step;
            return status;
        }
        system->layer++;
    }
    return NEOMM_OK;
}

neomm_status system_stop(struct system *system, enum system_layer layer)
{
    while (system->layer > layer) {
        neomm_status status = stop_layer(system);
        if (status != NEOMM_OK)
            return status;
        system->layer--;
    }
    return NEOMM_OK;
}

void system_abandon(struct system *system)
{
    if (system->layer >= SYSTEM_SWAP)
        close_disks(system);
    if (system->layer >= SYSTEM_PAGING)
        leave_tables(system);
    system->layer = SYSTEM_NOTHING;
}
