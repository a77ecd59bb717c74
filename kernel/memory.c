/* The kernel's own memory manager: from the firmware's map to the highest layer.
 * SPDX-License-Identifier: MIT
 */
#include "kernel.h"
#include "system.h"

/* What the library's storage rule makes of 128 entries of the firmware. */
#define MAP_STORAGE         (3 * 128 + 16)
#define HIGH_RAM_MOST       ((neomm_paddr_t)16 << 30)
#define CPUID_EXTENDED_MOST 0x80000000u
#define CPUID_ADDRESS_SIZES 0x80000008u
#define PAE_ADDRESS_BITS    36

static struct {
    struct neomm_boot_range storage[MAP_STORAGE];
    struct neomm_bootmap map;
    struct neomm_layout layout;
    struct neomm_config config;
    struct neomm_handover handover;
    neomm_paddr_t tables; /* of the boot's direct map */
    struct system system;
    struct neomm_snapshot snapshot;
} memory;

static const char config_text[] = "[memory]\n"
                                  "zero_page = no\n"
                                  "[swap]\n"
                                  "policy = adaptive\n"
                                  "[vmm]\n"
                                  "aslr = no\n";

static bool step(const char *what, neomm_status status)
{
    if (status != NEOMM_OK)
        console_print("# %s: %s\n", what, neomm_status_text(status));
    return status == NEOMM_OK;
}

struct neomm *memory_root(void)
{
    return memory.system.root;
}

/* ---- map and layout ---- */

/* What the format reaches, and on i386 what the library supports. */
static neomm_paddr_t address_limit(enum neomm_format format)
{
    if (format == NEOMM_FORMAT_2LEVEL)
        return (neomm_paddr_t)1 << 32;
    return format == NEOMM_FORMAT_PAE ? HIGH_RAM_MOST : 0;
}

static uint32_t physical_bits(void)
{
    uint32_t out[4];
    neomm_cpu_cpuid(CPUID_EXTENDED_MOST, 0, out);
    if (out[0] < CPUID_ADDRESS_SIZES)
        return PAE_ADDRESS_BITS;
    neomm_cpu_cpuid(CPUID_ADDRESS_SIZES, 0, out);
    return out[0] & 0xff;
}

neomm_status memory_layout(neomm_paddr_t end, struct neomm_layout *layout)
{
    neomm_status status = neomm_layout_default(boot_format(), end, layout);
    uint32_t bits = physical_bits();
    if (status == NEOMM_OK && bits < layout->physical_bits)
        layout->physical_bits = bits;
    return status;
}

/* The firmware's map with the image and the suites' memory taken out, and the boot tables once
 * they have a place. */
static neomm_status read_map(uint32_t loader_info, uint32_t table_pages)
{
    struct neomm_bootmap *map = &memory.map;
    neomm_bootmap_init(map, memory.storage, MAP_STORAGE);
    neomm_status status = firmware_map(loader_info, map);
    if (status == NEOMM_OK)
        status = neomm_bootmap_add(map, image_physical(image_text),
                                   (uint64_t)(image_stack_end - image_text), NEOMM_MEMORY_KERNEL);
    if (status == NEOMM_OK && suites_memory.length != 0)
        status =
            neomm_bootmap_add(map, suites_memory.base, suites_memory.length, suites_memory.type);
    if (status == NEOMM_OK && table_pages != 0)
        status =
            neomm_bootmap_add(map, memory.tables, table_pages * NEOMM_PAGE_SIZE, NEOMM_MEMORY_BOOT);
    if (status != NEOMM_OK)
        return status;
    return neomm_bootmap_resolve(map, address_limit(boot_format()), NULL, NULL);
}

/* boot.S maps the first memory at KERNEL_BASE, its own tables too. */
static void *boot_pointer(void *context, neomm_paddr_t table)
{
    (void)context;
    return table < BOOT_MAPPED ? (void *)((uintptr_t)KERNEL_BASE + (uintptr_t)table) : NULL;
}

enum neomm_format boot_format(void)
{
    struct neomm_handover handover;
    neomm_status status = neomm_handover_begin(&handover, boot_pointer, NULL);
    return status == NEOMM_OK ? handover.format : NEOMM_FORMAT_2LEVEL;
}

/* Usable memory behind the image that boot.S has mapped; 0: none. */
static neomm_paddr_t find_room(uint64_t size)
{
    for (uint32_t i = 0; i < memory.map.count; i++) {
        const struct neomm_boot_range *range = &memory.map.ranges[i];
        if (range->type == NEOMM_MEMORY_USABLE && range->length >= size &&
            range->base > image_physical(image_text) && range->base + size <= BOOT_MAPPED)
            return range->base;
    }
    return 0;
}

/* The library looks through the direct map before its own tables exist, so the boot's must have it.
 * Twice over the firmware's map: these tables are as large as it says, and lie in it. */
static bool prepare(uint32_t loader_info)
{
    struct neomm_handover *handover = &memory.handover;
    if (!step("firmware map", read_map(loader_info, 0)))
        return false;
    neomm_paddr_t end = neomm_bootmap_end(&memory.map);
    if (!step("layout", memory_layout(end, &memory.layout)) ||
        !step("boot tables", neomm_handover_begin(handover, boot_pointer, NULL)))
        return false;
    uint32_t pages = neomm_handover_direct_frames(handover, &memory.layout, end);
    memory.tables = find_room(pages * NEOMM_PAGE_SIZE);
    neomm_status status = memory.tables ? NEOMM_OK : NEOMM_E_NOMEM;
    if (status == NEOMM_OK)
        status = neomm_handover_direct(handover, &memory.layout, end, memory.tables, pages);
    if (!step(handover->fault.what ? handover->fault.what : "boot tables", status))
        return false;
    return step("firmware map", read_map(loader_info, pages));
}

/* ---- life ---- */

static void config_message(void *context, enum neomm_config_level level, const char *text)
{
    (void)level;
    console_line(context, text);
}

bool memory_start(uint32_t loader_info)
{
    struct system *system = &memory.system;
    neomm_config_default(&memory.config);
    neomm_config_parse(&memory.config, "config_text", config_text, sizeof(config_text) - 1, true,
                       config_message, NULL, NULL);
    if (command_line_has("nopool"))
        memory.config.compression = NEOMM_COMPRESSION_OFF;
    const struct neomm_vmm_options vmm = {
        .policy = memory.config.policy,
        .zero_page = memory.config.zero_page,
        .huge = (enum neomm_huge)memory.config.huge,
        .aslr = memory.config.aslr,
        .overcommit = (enum neomm_overcommit)memory.config.overcommit,
        .readahead = memory.config.readahead,
    };
    const struct system_options options = {
        .layer = SYSTEM_VMM,
        .layout = &memory.layout,
        .map = &memory.map,
        .config = &memory.config,
        .vmm = &vmm,
        .disk_pages = SWAP_PAGES,
        .virtio = command_line_has("virtio"),
    };
    if (!prepare(loader_info))
        return false;
    neomm_status status = system_start(system, &options);
    if (!step(system->step, status))
        return false;
    kernel_cpu.root = system->root;
    const struct neomm_cpumask this_cpu = {.word = {1}};
    status = neomm_handover_end(system->root, &memory.handover, &this_cpu);
    if (!step("hand-over", status))
        return false;
    /* Nothing of the loader's or of the boot tables is in use any more. */
    if (suites_memory.length == 0)
        neomm_pmm_reclaim_boot(system->root);
    return true;
}

bool memory_stop(void)
{
    neomm_status status = system_stop(&memory.system, SYSTEM_PAGING);
    return step(memory.system.step, status);
}

/* ---- memstat ---- */

static void report_text(void *context, const char *text, size_t length)
{
    bool *line_start = context;
    for (size_t i = 0; i < length; i++) {
        if (*line_start)
            console_write("# ", 2);
        console_write(&text[i], 1);
        *line_start = text[i] == '\n';
    }
}

void memory_report(void)
{
    bool line_start = true;
    neomm_snapshot_take(memory.system.root, &memory.snapshot);
    neomm_snapshot_text(&memory.snapshot, report_text, &line_start);
}
