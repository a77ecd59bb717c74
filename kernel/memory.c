/* The memory manager's life in this kernel: every layer from the firmware's map upwards, and
 * down again.
 * SPDX-License-Identifier: MIT
 */
#include "kernel.h"

/* What the library's storage rule makes of 128 entries of the firmware. */
#define MAP_STORAGE         (3 * 128 + 16)
#define ROOT_SIZE           8192
#define SWAP_PAGES          256
#define HIGH_RAM_MOST       ((neomm_paddr_t)16 << 30)
#define CPUID_ADDRESS_SIZES 0x80000008u

struct neomm *kernel_root;

static struct {
    struct neomm_boot_range storage[MAP_STORAGE];
    struct neomm_bootmap map;
    struct neomm_layout layout;
    struct neomm_config config;
    neomm_paddr_t end;    /* of usable memory */
    neomm_paddr_t tables; /* of the boot's direct map */
    unsigned char root[ROOT_SIZE] __attribute__((aligned(64)));
    struct neomm_page_source direct, window;
    struct neomm_snapshot snapshot;
} memory;

static const char config_text[] = "[memory]\n"
                                  "zero_page = no\n"
                                  "[swap]\n"
                                  "policy = clock\n";

static bool step(const char *what, neomm_status status)
{
    if (status != NEOMM_OK)
        console_print("# %s: %s\n", what, neomm_status_text(status));
    return status == NEOMM_OK;
}

static void config_message(void *context, enum neomm_config_level level, const char *text)
{
    (void)level;
    console_line(context, text);
}

/* What the format reaches, and on i386 what the library supports. */
static neomm_paddr_t address_limit(enum neomm_format format)
{
    if (format == NEOMM_FORMAT_2LEVEL)
        return (neomm_paddr_t)1 << 32;
    return format == NEOMM_FORMAT_PAE ? HIGH_RAM_MOST : 0;
}

static uint32_t physical_bits(uint32_t most)
{
    uint32_t out[4];
    neomm_cpu_cpuid(CPUID_ADDRESS_SIZES & 0x80000000u, 0, out);
    if (out[0] < CPUID_ADDRESS_SIZES)
        return most < 36 ? most : 36;
    neomm_cpu_cpuid(CPUID_ADDRESS_SIZES, 0, out);
    return (out[0] & 0xff) < most ? out[0] & 0xff : most;
}

/* The firmware's map with the image taken out, and the boot tables once they have a place. */
static neomm_status read_map(uint32_t loader_info, uint32_t table_pages)
{
    struct neomm_bootmap *map = &memory.map;
    neomm_bootmap_init(map, memory.storage, MAP_STORAGE);
    neomm_status status = firmware_map(loader_info, map);
    if (status == NEOMM_OK)
        status = neomm_bootmap_add(map, image_physical(image_text),
                                   (uint64_t)(image_stack_end - image_text), NEOMM_MEMORY_KERNEL);
    if (status == NEOMM_OK && table_pages != 0)
        status =
            neomm_bootmap_add(map, memory.tables, table_pages * NEOMM_PAGE_SIZE, NEOMM_MEMORY_BOOT);
    return status == NEOMM_OK ? neomm_bootmap_resolve(map, address_limit(boot_format()), NULL, NULL)
                              : status;
}

/* Usable memory behind the image that boot.S has mapped. */
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

static bool prepare_map(uint32_t loader_info)
{
    if (!step("firmware map", read_map(loader_info, 0)))
        return false;
    memory.end = neomm_bootmap_end(&memory.map);
    if (!step("layout", neomm_layout_default(boot_format(), memory.end, &memory.layout)))
        return false;
    memory.layout.physical_bits = physical_bits(memory.layout.physical_bits);
    uint32_t pages = boot_tables_needed(memory.end);
    memory.tables = find_room(pages * NEOMM_PAGE_SIZE);
    if (!step("boot tables", memory.tables ? NEOMM_OK : NEOMM_E_NOMEM))
        return false;
    boot_map_direct(&memory.layout, memory.end, memory.tables);
    return step("firmware map", read_map(loader_info, pages));
}

static neomm_status start_root(void)
{
    neomm_config_default(&memory.config);
    neomm_config_parse(&memory.config, "config_text", config_text, sizeof(config_text) - 1, true,
                       config_message, NULL, NULL);
    struct neomm_options options = {memory.layout, 1, &memory.config};
    return neomm_init(memory.root, sizeof(memory.root), &options, &kernel_root);
}

static struct neomm_kernel_segment segment(const char *from, const char *to, neomm_prot_t prot)
{
    return (struct neomm_kernel_segment){(neomm_vaddr_t)from, image_physical(from),
                                         (size_t)(to - from), prot};
}

/* The page below the stack stays unmapped. */
static neomm_status start_paging(void)
{
    const neomm_prot_t r = NEOMM_PROT_READ, rw = r | NEOMM_PROT_WRITE, rx = r | NEOMM_PROT_EXEC;
    const struct neomm_kernel_segment segments[] = {
        segment(image_text, image_text_end, rx),
        segment(image_rodata, image_rodata_end, r),
        segment(image_data, image_data_end, rw),
        segment(image_stack, image_stack_end, rw),
    };
    const struct neomm_paging_options options = {segments, sizeof(segments) / sizeof(segments[0])};
    neomm_status status = neomm_paging_init(kernel_root, &options);
    if (status != NEOMM_OK)
        return status;
    neomm_irq_t irq = neomm_port_irq_save();
    status = neomm_paging_cpu_init(kernel_root);
    neomm_port_irq_restore(irq);
    return status;
}

static neomm_status start_heap(void)
{
    neomm_heap_source_direct(kernel_root, &memory.direct);
    neomm_heap_source_window(kernel_root, &memory.window);
    const struct neomm_heap_options options = {&memory.direct, &memory.window};
    return neomm_heap_init(kernel_root, &options);
}

static neomm_status start_swap(void)
{
    neomm_status status = neomm_swap_init(kernel_root);
    if (status != NEOMM_OK)
        return status;
    struct neomm_block_device *disk = ramdisk_create(kernel_root, SWAP_PAGES);
    return disk ? neomm_swap_add(kernel_root, disk, 0) : NEOMM_E_NOMEM;
}

bool memory_start(uint32_t loader_info)
{
    const struct neomm_vmm_options vmm = {memory.config.policy, false};
    if (!prepare_map(loader_info) || !step("root", start_root()))
        return false;
    kernel_cpu.root = kernel_root;
    if (!step("pmm", neomm_pmm_init(kernel_root, &memory.map, NULL)) ||
        !step("paging", start_paging()))
        return false;
    /* Nothing of the loader's or of the boot tables is in use from here on. */
    neomm_pmm_reclaim_boot(kernel_root);
    return step("heap", start_heap()) && step("swap", start_swap()) &&
           step("vmm", neomm_vmm_init(kernel_root, &vmm));
}

bool memory_stop(void)
{
    return step("vmm", neomm_vmm_fini(kernel_root)) && step("swap", neomm_swap_fini(kernel_root)) &&
           step("ram disk", ramdisk_destroy()) && step("heap", neomm_heap_fini(kernel_root));
}

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
    neomm_snapshot_take(kernel_root, &memory.snapshot);
    neomm_snapshot_text(&memory.snapshot, report_text, &line_start);
}
