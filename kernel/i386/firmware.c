/* What a Multiboot loader leaves in memory: command line, memory map, modules.
 * SPDX-License-Identifier: MIT
 *
 * Source: Multiboot Specification 0.6.96, 3.3.
 */
#include "kernel.h"

#define HAS_COMMAND_LINE 0x4u
#define HAS_MODULES      0x8u
#define HAS_MAP          0x40u

struct information {
    uint32_t flags, memory_low, memory_high, boot_device, command_line;
    uint32_t modules, module_list;
    uint32_t symbols[4];
    uint32_t map_bytes, map;
};

struct module {
    uint32_t start, end, command_line, reserved;
};

/* A structure of the loader's in physical memory, NULL where boot.S has mapped nothing. */
static const void *loader_pointer(uint32_t address, uint32_t size)
{
    if (address == 0 || address >= BOOT_MAPPED || size > BOOT_MAPPED - address)
        return NULL;
    return (const void *)((uintptr_t)KERNEL_BASE + address);
}

void firmware_command_line(uint32_t loader_info, char *to, size_t size)
{
    const struct information *info = loader_pointer(loader_info, sizeof(*info));
    const char *text = NULL;
    size_t length = 0;
    if (info && info->flags & HAS_COMMAND_LINE)
        text = loader_pointer(info->command_line, size);
    while (text && length < size - 1 && text[length])
        length++;
    for (size_t i = 0; i < length; i++)
        to[i] = text[i];
    to[length] = '\0';
}

static neomm_status add_modules(const struct information *info, struct neomm_bootmap *map)
{
    neomm_status status = NEOMM_OK;
    if (!(info->flags & HAS_MODULES) || info->modules == 0)
        return NEOMM_OK;
    if (info->modules > BOOT_MAPPED / sizeof(struct module))
        return NEOMM_E_INVALID;
    const struct module *module =
        loader_pointer(info->module_list, info->modules * sizeof(*module));
    if (!module)
        return NEOMM_E_INVALID;
    for (uint32_t i = 0; status == NEOMM_OK && i < info->modules; i++)
        if (module[i].end > module[i].start)
            status = neomm_bootmap_add(map, module[i].start, module[i].end - module[i].start,
                                       NEOMM_MEMORY_BOOT);
    return status;
}

neomm_status firmware_map(uint32_t loader_info, struct neomm_bootmap *map)
{
    const struct information *info = loader_pointer(loader_info, sizeof(*info));
    if (!info || !(info->flags & HAS_MAP))
        return NEOMM_E_NOENT;
    const void *buffer = loader_pointer(info->map, info->map_bytes);
    if (!buffer)
        return NEOMM_E_INVALID;
    neomm_status status = neomm_bootmap_add_multiboot1(map, buffer, info->map_bytes);
    return status == NEOMM_OK ? add_modules(info, map) : status;
}
