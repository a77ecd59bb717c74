/* What a PVH loader leaves in memory: command line, memory map, modules.
 * SPDX-License-Identifier: MIT
 *
 * Source: Xen public/arch-x86/hvm/start_info.h, version 1.
 */
#include "kernel.h"

#define START_MAGIC 0x336ec578u

struct start_info {
    uint32_t magic, version, flags, modules;
    uint64_t module_list, command_line, rsdp;
    uint64_t map;
    uint32_t map_entries, reserved;
};

struct module {
    uint64_t base, size, command_line, reserved;
};

struct map_entry {
    uint64_t base, size;
    uint32_t type, reserved;
};

/* A structure of the loader's in physical memory, NULL where boot.S has mapped nothing. */
static const void *loader_pointer(uint64_t address, uint64_t size)
{
    if (address == 0 || address >= BOOT_MAPPED || size > BOOT_MAPPED - address)
        return NULL;
    return (const void *)((uintptr_t)KERNEL_BASE + address);
}

static const struct start_info *find_info(uint32_t loader_info)
{
    const struct start_info *info = loader_pointer(loader_info, sizeof(*info));
    return info && info->magic == START_MAGIC && info->version >= 1 ? info : NULL;
}

void firmware_command_line(uint32_t loader_info, char *to, size_t size)
{
    const struct start_info *info = find_info(loader_info);
    const char *text = info ? loader_pointer(info->command_line, size) : NULL;
    size_t length = 0;
    while (text && length < size - 1 && text[length])
        length++;
    for (size_t i = 0; i < length; i++)
        to[i] = text[i];
    to[length] = '\0';
}

neomm_status firmware_map(uint32_t loader_info, struct neomm_bootmap *map)
{
    const struct start_info *info = find_info(loader_info);
    if (!info)
        return NEOMM_E_INVALID;
    const struct map_entry *entry =
        loader_pointer(info->map, (uint64_t)info->map_entries * sizeof(*entry));
    if (!entry || info->map_entries == 0)
        return NEOMM_E_NOENT;
    neomm_status status = neomm_bootmap_add_e820(map, entry, info->map_entries, sizeof(*entry));
    const struct module *module =
        loader_pointer(info->module_list, (uint64_t)info->modules * sizeof(*module));
    for (uint32_t i = 0; status == NEOMM_OK && module && i < info->modules; i++)
        status = neomm_bootmap_add(map, module[i].base, module[i].size, NEOMM_MEMORY_BOOT);
    return status;
}
