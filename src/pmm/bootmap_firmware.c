/* The boot memory map: the tables that firmware and boot loaders hand over.
 * SPDX-License-Identifier: MIT
 *
 * Sources: ACPI 6.4, 15; Multiboot 0.6.96, 3.3; Multiboot 2.0, 3.4 and 3.6; UEFI 2.10, 7.2.
 * Tables may lie at any address, so each field is copied out before it is looked at.
 */
#include "base/bits.h"
#include "base/memory.h"

#include <neomm/pmm.h>

static uint32_t get32(const uint8_t *at)
{
    uint32_t value;
    memcpy(&value, at, sizeof(value));
    return value;
}

static uint64_t get64(const uint8_t *at)
{
    uint64_t value;
    memcpy(&value, at, sizeof(value));
    return value;
}

/* What a table as a whole ends with: an entry for which there was no room is told once. */
static void join(neomm_status *result, neomm_status status)
{
    if (status != NEOMM_OK)
        *result = status;
}

/* ---- a plain list ---- */

neomm_status neomm_bootmap_add_list(struct neomm_bootmap *map, const struct neomm_boot_range *list,
                                    uint32_t count)
{
    neomm_status result = NEOMM_OK;
    for (uint32_t i = 0; i < count; i++)
        if ((unsigned)list[i].type - NEOMM_MEMORY_HOTPLUG > NEOMM_MEMORY_BAD - NEOMM_MEMORY_HOTPLUG)
            return NEOMM_E_INVALID;
    for (uint32_t i = 0; i < count; i++)
        join(&result, neomm_bootmap_add(map, list[i].base, list[i].length, list[i].type));
    return result;
}

/* ---- E820 and Multiboot 1 ---- */

enum neomm_memory_type neomm_e820_type(uint32_t type)
{
    switch (type) {
    case 1:
        return NEOMM_MEMORY_USABLE;
    case 3:
        return NEOMM_MEMORY_ACPI;
    case 4:
        return NEOMM_MEMORY_NVS;
    case 5:
        return NEOMM_MEMORY_BAD;
    default:
        return NEOMM_MEMORY_RESERVED;
    }
}

/* An entry as E820 and Multiboot write it: u64 base, u64 length, u32 type. */
#define ENTRY_BYTES 20

static neomm_status add_entry(struct neomm_bootmap *map, const uint8_t *entry)
{
    return neomm_bootmap_add(map, get64(entry), get64(entry + 8),
                             neomm_e820_type(get32(entry + 16)));
}

neomm_status neomm_bootmap_add_e820(struct neomm_bootmap *map, const void *table, uint32_t count,
                                    uint32_t stride)
{
    neomm_status result = NEOMM_OK;
    if (stride < ENTRY_BYTES)
        return NEOMM_E_INVALID;
    for (const uint8_t *entry = table; count > 0; count--, entry += stride)
        join(&result, add_entry(map, entry));
    return result;
}

neomm_status neomm_bootmap_add_multiboot1(struct neomm_bootmap *map, const void *buffer,
                                          uint32_t bytes)
{
    const uint8_t *entry = buffer;
    neomm_status result = NEOMM_OK;
    while (bytes > 0) {
        uint32_t size = bytes < sizeof(size) ? 0 : get32(entry);
        if (size < ENTRY_BYTES || size > bytes - sizeof(size))
            return NEOMM_E_INVALID;
        join(&result, add_entry(map, entry + sizeof(size)));
        entry += sizeof(size) + size;
        bytes -= (uint32_t)sizeof(size) + size;
    }
    return result;
}

/* ---- UEFI ----
 *
 * A descriptor: u32 type, 4 bytes of padding, u64 physical start, u64 virtual start, u64 pages,
 * u64 attributes; later versions may add fields behind these.
 */
#define DESCRIPTOR_BYTES 40

enum uefi_type {
    UEFI_LOADER_CODE = 1,
    UEFI_LOADER_DATA,
    UEFI_BOOT_SERVICES_CODE,
    UEFI_BOOT_SERVICES_DATA,
    UEFI_CONVENTIONAL = 7,
    UEFI_UNUSABLE,
    UEFI_ACPI_RECLAIM,
    UEFI_ACPI_NVS
};

#define UEFI_WRITE_BACK       ((uint64_t)1 << 3)
#define UEFI_NON_VOLATILE     ((uint64_t)1 << 15)
#define UEFI_SPECIFIC_PURPOSE ((uint64_t)1 << 18)
#define UEFI_RUNTIME          ((uint64_t)1 << 63)

/* Is this RAM that keeps nothing, that no firmware uses later, and that is for everybody? */
static bool is_plain_ram(uint64_t attributes)
{
    const uint64_t special = UEFI_NON_VOLATILE | UEFI_SPECIFIC_PURPOSE | UEFI_RUNTIME;
    return (attributes & (UEFI_WRITE_BACK | special)) == UEFI_WRITE_BACK;
}

enum neomm_memory_type neomm_uefi_type(uint32_t type, uint64_t attributes)
{
    enum neomm_memory_type if_plain;
    switch (type) {
    case UEFI_CONVENTIONAL:
        if_plain = NEOMM_MEMORY_USABLE;
        break;
    case UEFI_LOADER_CODE:
    case UEFI_LOADER_DATA:
    case UEFI_BOOT_SERVICES_CODE:
    case UEFI_BOOT_SERVICES_DATA:
        if_plain = NEOMM_MEMORY_BOOT;
        break;
    case UEFI_ACPI_RECLAIM:
        if_plain = NEOMM_MEMORY_ACPI;
        break;
    case UEFI_UNUSABLE:
        return NEOMM_MEMORY_BAD;
    case UEFI_ACPI_NVS:
        return NEOMM_MEMORY_NVS;
    default:
        return NEOMM_MEMORY_RESERVED;
    }
    return is_plain_ram(attributes) ? if_plain : NEOMM_MEMORY_RESERVED;
}

/* Pages that are beyond 2^64 bytes altogether wrap like any length that is too long. */
static neomm_status add_descriptor(struct neomm_bootmap *map, const uint8_t *descriptor)
{
    uint64_t pages = get64(descriptor + 24);
    uint64_t length =
        pages > UINT64_MAX >> NEOMM_PAGE_SHIFT ? UINT64_MAX : pages << NEOMM_PAGE_SHIFT;
    return neomm_bootmap_add(map, get64(descriptor + 8), length,
                             neomm_uefi_type(get32(descriptor), get64(descriptor + 32)));
}

neomm_status neomm_bootmap_add_uefi(struct neomm_bootmap *map, const void *buffer, uint32_t bytes,
                                    uint32_t descriptor_bytes)
{
    const uint8_t *descriptor = buffer;
    neomm_status result = NEOMM_OK;
    if (descriptor_bytes < DESCRIPTOR_BYTES || bytes % descriptor_bytes != 0)
        return NEOMM_E_INVALID;
    for (; bytes > 0; bytes -= descriptor_bytes, descriptor += descriptor_bytes)
        join(&result, add_descriptor(map, descriptor));
    return result;
}

/* ---- Multiboot 2 ----
 *
 *   information   u32 total size, u32 reserved, tags
 *   tag           u32 type, u32 size, contents, padding up to a multiple of 8
 *   memory map    u32 entry size, u32 entry version, entries as above with 4 bytes more
 *   UEFI map      u32 descriptor size, u32 descriptor version, descriptors
 */
#define TAG_ALIGN     8
#define TAG_BYTES     8
#define MAP_TAG_BYTES 16

enum tag_type { TAG_END = 0, TAG_MAP = 6, TAG_UEFI_MAP = 17, TAG_BOOT_SERVICES = 18 };

/* What a pass over the tags saw. */
struct tags {
    const uint8_t *information;
    uint32_t bytes; /* of all of it */
    bool map, uefi_map, boot_services;
};

/* The contents' size and items of one of the two maps. */
static bool is_whole_map(const uint8_t *tag, uint32_t size, uint32_t least)
{
    if (size < MAP_TAG_BYTES)
        return false;
    uint32_t item = get32(tag + TAG_BYTES);
    return item >= least && (size - MAP_TAG_BYTES) % item == 0;
}

static bool is_whole_tag(struct tags *tags, uint32_t type, const uint8_t *tag, uint32_t size)
{
    switch (type) {
    case TAG_MAP:
        tags->map = true;
        return is_whole_map(tag, size, ENTRY_BYTES + 4) &&
               NEOMM__ALIGNED(get32(tag + TAG_BYTES), TAG_ALIGN);
    case TAG_UEFI_MAP:
        tags->uefi_map = true;
        return is_whole_map(tag, size, DESCRIPTOR_BYTES);
    case TAG_BOOT_SERVICES:
        tags->boot_services = true;
        return true;
    default:
        return true;
    }
}

/* Every tag lies inside, the maps are whole entries, and there is an end. */
static bool check_tags(struct tags *tags)
{
    uint64_t at = TAG_BYTES;
    while (at + TAG_BYTES <= tags->bytes) {
        const uint8_t *tag = tags->information + at;
        uint32_t type = get32(tag), size = get32(tag + 4);
        if (size < TAG_BYTES || size > tags->bytes - at)
            return false;
        if (type == TAG_END)
            return size == TAG_BYTES;
        if (!is_whole_tag(tags, type, tag, size))
            return false;
        at = NEOMM__ALIGN_UP(at + size, TAG_ALIGN);
    }
    return false;
}

static neomm_status add_map_tag(struct neomm_bootmap *map, const uint8_t *tag)
{
    uint32_t size = get32(tag + 4), item = get32(tag + TAG_BYTES);
    const uint8_t *items = tag + MAP_TAG_BYTES;
    uint32_t bytes = size - MAP_TAG_BYTES;
    if (get32(tag) == TAG_UEFI_MAP)
        return neomm_bootmap_add_uefi(map, items, bytes, item);
    return neomm_bootmap_add_e820(map, items, bytes / item, item);
}

/* Adds all tags of one kind of checked information. */
static neomm_status add_tags(struct neomm_bootmap *map, const struct tags *tags, uint32_t wanted)
{
    const uint8_t *tag = tags->information + TAG_BYTES;
    neomm_status result = NEOMM_OK;
    while (get32(tag) != TAG_END) {
        if (get32(tag) == wanted)
            join(&result, add_map_tag(map, tag));
        tag += NEOMM__ALIGN_UP((size_t)get32(tag + 4), TAG_ALIGN);
    }
    return result;
}

neomm_status neomm_bootmap_add_multiboot2(struct neomm_bootmap *map, const void *information,
                                          uint32_t most)
{
    struct tags tags = {.information = information};
    if (!NEOMM__ALIGNED((uintptr_t)information, TAG_ALIGN))
        return NEOMM_E_ALIGN;
    if (most < 2 * TAG_BYTES)
        return NEOMM_E_INVALID;
    tags.bytes = get32(information);
    if (tags.bytes > most || !check_tags(&tags))
        return NEOMM_E_INVALID;
    if (tags.boot_services)
        return NEOMM_E_BUSY;
    if (!tags.map && !tags.uefi_map)
        return NEOMM_E_NOENT;
    return add_tags(map, &tags, tags.map ? TAG_MAP : TAG_UEFI_MAP);
}
