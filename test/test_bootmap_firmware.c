/* The boot memory map's readers: each format whole, cut off at every byte, and with fields that
 * claim too much.
 * SPDX-License-Identifier: MIT */
#include "ktap.h"

#include "base/bits.h"
#include "base/memory.h"

#include <neomm/pmm.h>

#define ENTRIES_MAX 1000
#define PAGE(n)     ((uint64_t)(n) << NEOMM_PAGE_SHIFT)

static struct neomm_boot_range storage[ENTRIES_MAX + 16];
static struct neomm_boot_range list[ENTRIES_MAX];
/* Room for 1000 descriptors of 64 bytes and a frame around them; machine words, so aligned. */
static uint64_t words[ENTRIES_MAX * 8 + 64];
static uint8_t *const buffer = (uint8_t *)words;

static uint8_t *put(uint8_t *at, uint64_t value, uint32_t bytes)
{
    for (uint32_t i = 0; i < bytes; i++)
        at[i] = (uint8_t)(value >> 8 * i);
    return at + bytes;
}

static uint8_t *put_entry(uint8_t *at, uint64_t base, uint64_t length, uint32_t type)
{
    return put(put(put(at, base, 8), length, 8), type, 4);
}

static void types(struct ktap *t)
{
    static const uint32_t numbers_known[] = {1, 2, 3, 4, 5};
    static const enum neomm_memory_type meant[] = {NEOMM_MEMORY_USABLE, NEOMM_MEMORY_RESERVED,
                                                   NEOMM_MEMORY_ACPI, NEOMM_MEMORY_NVS,
                                                   NEOMM_MEMORY_BAD};
    for (uint32_t i = 0; i < 5; i++)
        EXPECT_EQ(t, neomm_e820_type(numbers_known[i]), meant[i]);
    EXPECT_EQ(t, neomm_e820_type(0), NEOMM_MEMORY_RESERVED);
    for (uint32_t type = 6; type < 40; type++)
        EXPECT_EQ(t, neomm_e820_type(type), NEOMM_MEMORY_RESERVED);
    EXPECT_EQ(t, neomm_e820_type(UINT32_MAX), NEOMM_MEMORY_RESERVED);
}

static const uint64_t strides[] = {20, 24};

static void e820(struct ktap *t)
{
    uint8_t table[3 * 24 + 1] = {0};
    uint32_t stride = (uint32_t)t->parameter;
    struct neomm_bootmap map;
    uint8_t *at = table + 1; /* at an odd address */
    (void)put_entry(at, 0x1122334455667000u, 0x8877665544332211u, 1);
    (void)put_entry(at + stride, 0xf0000, 0x10000, 2);
    (void)put_entry(at + (size_t)2 * stride, 0x100000, 0x700000, 1);
    neomm_bootmap_init(&map, storage, 8);
    EXPECT_OK(t, neomm_bootmap_add_e820(&map, at, 3, stride));
    ASSERT(t, map.count == 3);
    EXPECT_EQ(t, map.ranges[0].base, 0x1122334455667000u);
    EXPECT_EQ(t, map.ranges[0].length, 0x8877665544332211u);
    EXPECT_EQ(t, map.ranges[1].type, NEOMM_MEMORY_RESERVED);
    EXPECT_EQ(t, map.ranges[2].base, 0x100000);
    neomm_bootmap_init(&map, storage, 2);
    EXPECT_EQ(t, neomm_bootmap_add_e820(&map, at, 3, stride), NEOMM_E_NOSPACE);
    EXPECT_EQ(t, map.count, 2);
    EXPECT_EQ(t, map.dropped, 1);
    neomm_bootmap_init(&map, storage, 8);
    EXPECT_EQ(t, neomm_bootmap_add_e820(&map, at, 3, 19), NEOMM_E_INVALID);
    EXPECT_EQ(t, map.count, 0);
    EXPECT_OK(t, neomm_bootmap_add_e820(&map, NULL, 0, 20));
}

static void multiboot1(struct ktap *t)
{
    memset(words, 0, sizeof(words));
    struct neomm_bootmap map;
    uint8_t *at = put_entry(put(buffer, 20, 4), 0, 0x9fc00, 1);
    at = put_entry(put(at, 28, 4), 0x100000, 0x7ee0000, 1) + 8; /* with 8 bytes more */
    at = put_entry(put(at, 20, 4), 0xfffc0000u, 0x40000, 3);
    uint32_t bytes = (uint32_t)(at - buffer);
    neomm_bootmap_init(&map, storage, 8);
    EXPECT_OK(t, neomm_bootmap_add_multiboot1(&map, buffer, bytes));
    ASSERT(t, map.count == 3);
    EXPECT_EQ(t, map.ranges[1].base, 0x100000);
    EXPECT_EQ(t, map.ranges[2].base, 0xfffc0000u);
    EXPECT_EQ(t, map.ranges[2].type, NEOMM_MEMORY_ACPI);
    neomm_bootmap_init(&map, storage, 2);
    EXPECT_EQ(t, neomm_bootmap_add_multiboot1(&map, buffer, bytes), NEOMM_E_NOSPACE);
    EXPECT_EQ(t, map.count, 2);
}

/* Whatever is cut off or claimed, nothing outside the buffer is read (the sanitizers watch) and
 * the whole entries before are in. */
static void multiboot1_broken(struct ktap *t)
{
    uint8_t room[72];
    struct neomm_bootmap map;
    for (uint32_t bytes = 0; bytes <= sizeof(room); bytes++) {
        uint8_t *tail = room + sizeof(room) - bytes;
        uint8_t whole[72];
        uint8_t *at = whole;
        for (int i = 0; i < 3; i++)
            at = put_entry(put(at, 20, 4), 0x1000, 0x1000, 1);
        memcpy(tail, whole, bytes);
        neomm_bootmap_init(&map, storage, 8);
        EXPECT_EQ(t, neomm_bootmap_add_multiboot1(&map, tail, bytes),
                  bytes % 24 == 0 ? NEOMM_OK : NEOMM_E_INVALID);
        EXPECT_EQ(t, map.count, bytes / 24);
    }
    static const uint32_t sizes[] = {0, 1, 19, 69, 0x7fffffff, 0xfffffffcu, 0xffffffffu};
    for (uint32_t i = 0; i < NEOMM__COUNT_OF(sizes); i++) {
        neomm_bootmap_init(&map, storage, 8);
        (void)put(room, sizes[i], 4);
        EXPECT_EQ(t, neomm_bootmap_add_multiboot1(&map, room, sizeof(room)), NEOMM_E_INVALID);
        EXPECT_EQ(t, map.count, 0);
    }
}

/* ---- a plain list ---- */

static void plain_list(struct ktap *t)
{
    struct neomm_bootmap map;
    for (unsigned type = NEOMM_MEMORY_HOTPLUG; type <= NEOMM_MEMORY_BAD; type++)
        list[type - 1] =
            (struct neomm_boot_range){PAGE(type), PAGE(1), (enum neomm_memory_type)type};
    neomm_bootmap_init(&map, storage, 9);
    EXPECT_OK(t, neomm_bootmap_add_list(&map, list, NEOMM_MEMORY_BAD));
    EXPECT_EQ(t, map.count, NEOMM_MEMORY_BAD);
    for (uint32_t i = 0; i < NEOMM_MEMORY_BAD; i++)
        EXPECT(t, storage[i].base == list[i].base && storage[i].length == list[i].length &&
                      storage[i].type == list[i].type);
    EXPECT_OK(t, neomm_bootmap_add_list(&map, NULL, 0));
    EXPECT_EQ(t, neomm_bootmap_add_list(&map, list, 2), NEOMM_E_NOSPACE);
    EXPECT_EQ(t, map.count, 9);
    EXPECT_EQ(t, map.dropped, 1);
    for (unsigned wrong = 0; wrong < 2; wrong++) {
        list[3].type = (enum neomm_memory_type)(wrong ? NEOMM_MEMORY_BAD + 1 : 0);
        neomm_bootmap_init(&map, storage, 8);
        EXPECT_EQ(t, neomm_bootmap_add_list(&map, list, 4), NEOMM_E_INVALID);
        EXPECT_EQ(t, map.count, 0);
        EXPECT_OK(t, neomm_bootmap_add_list(&map, list, 3));
    }
}

/* ---- UEFI ---- */

#define WB      0x8u
#define SPECIAL 0x40000u

static uint8_t *put_descriptor(uint8_t *at, uint32_t type, uint64_t base, uint64_t pages,
                               uint64_t attributes)
{
    return put(put(put(put(put(at, type, 8), base, 8), 0, 8), pages, 8), attributes, 8);
}

static void uefi_types(struct ktap *t)
{
    static const enum neomm_memory_type meant[] = {
        NEOMM_MEMORY_RESERVED, NEOMM_MEMORY_BOOT,     NEOMM_MEMORY_BOOT,     NEOMM_MEMORY_BOOT,
        NEOMM_MEMORY_BOOT,     NEOMM_MEMORY_RESERVED, NEOMM_MEMORY_RESERVED, NEOMM_MEMORY_USABLE,
        NEOMM_MEMORY_BAD,      NEOMM_MEMORY_ACPI,     NEOMM_MEMORY_NVS,      NEOMM_MEMORY_RESERVED,
        NEOMM_MEMORY_RESERVED, NEOMM_MEMORY_RESERVED, NEOMM_MEMORY_RESERVED, NEOMM_MEMORY_RESERVED};
    static const uint64_t ordinary[] = {0x8, 0xf, 0x1f, 0x700f, 0x1000f, 0x2000f, 0x8000fu};
    static const uint64_t special[] = {
        0, 0x7, 0x1000, 0x8 | SPECIAL, 0x8008, (uint64_t)1 << 63 | 0xf, UINT64_MAX};
    static const uint32_t invented[] = {16, 100, 0x6fffffff, 0x70000000, 0x80000000, 0xffffffffu};
    for (uint32_t type = 0; type < NEOMM__COUNT_OF(meant); type++) {
        for (uint32_t i = 0; i < NEOMM__COUNT_OF(ordinary); i++)
            EXPECT_EQ(t, neomm_uefi_type(type, ordinary[i]), meant[type]);
        for (uint32_t i = 0; i < NEOMM__COUNT_OF(special); i++)
            EXPECT_EQ(t, neomm_uefi_type(type, special[i]),
                      meant[type] <= NEOMM_MEMORY_ACPI ? NEOMM_MEMORY_RESERVED : meant[type]);
    }
    for (uint32_t i = 0; i < NEOMM__COUNT_OF(invented); i++)
        EXPECT_EQ(t, neomm_uefi_type(invented[i], WB), NEOMM_MEMORY_RESERVED);
}

static const uint64_t descriptor_sizes[] = {40, 41, 48, 64};

static void uefi(struct ktap *t)
{
    uint32_t size = (uint32_t)t->parameter;
    struct neomm_bootmap map;
    uint8_t *at = buffer + 1;
    memset(words, 0xff, sizeof(words));
    (void)put_descriptor(at, 7, PAGE(256), 0x1000, WB);
    (void)put_descriptor(at + size, 3, 0x12345678, (uint64_t)1 << 51, WB);
    (void)put_descriptor(at + (size_t)2 * size, 11, PAGE(3), (uint64_t)1 << 52, 1);
    (void)put_descriptor(at + (size_t)3 * size, 7, 0, ((uint64_t)1 << 52) - 1, WB);
    neomm_bootmap_init(&map, storage, 8);
    EXPECT_OK(t, neomm_bootmap_add_uefi(&map, at, 4 * size, size));
    ASSERT(t, map.count == 4);
    EXPECT_EQ(t, storage[0].base, PAGE(256));
    EXPECT_EQ(t, storage[0].length, PAGE(0x1000));
    EXPECT_EQ(t, storage[0].type, NEOMM_MEMORY_USABLE);
    EXPECT_EQ(t, storage[1].base, 0x12345678);
    EXPECT(t, storage[1].length == (uint64_t)1 << 63);
    EXPECT_EQ(t, storage[1].type, NEOMM_MEMORY_BOOT);
    EXPECT(t, storage[2].length == UINT64_MAX);
    EXPECT_EQ(t, storage[2].type, NEOMM_MEMORY_RESERVED);
    EXPECT(t, storage[3].length == 0 - (uint64_t)NEOMM_PAGE_SIZE);
    neomm_bootmap_init(&map, storage, 3);
    EXPECT_EQ(t, neomm_bootmap_add_uefi(&map, at, 4 * size, size), NEOMM_E_NOSPACE);
    EXPECT_EQ(t, map.dropped, 1);
    for (uint32_t bytes = 0; bytes <= 4 * size; bytes++) {
        neomm_bootmap_init(&map, storage, 8);
        EXPECT_EQ(t, neomm_bootmap_add_uefi(&map, at, bytes, size),
                  bytes % size == 0 ? NEOMM_OK : NEOMM_E_INVALID);
        EXPECT_EQ(t, map.count, bytes % size == 0 ? bytes / size : 0);
    }
}

static void uefi_sizes(struct ktap *t)
{
    static const uint32_t sizes[] = {0, 1, 20, 39};
    struct neomm_bootmap map;
    neomm_bootmap_init(&map, storage, 8);
    for (uint32_t i = 0; i < NEOMM__COUNT_OF(sizes); i++) {
        EXPECT_EQ(t, neomm_bootmap_add_uefi(&map, buffer, 0, sizes[i]), NEOMM_E_INVALID);
        EXPECT_EQ(t, neomm_bootmap_add_uefi(&map, buffer, 780, sizes[i]), NEOMM_E_INVALID);
    }
    EXPECT_EQ(t, neomm_bootmap_add_uefi(&map, buffer, 40, UINT32_MAX), NEOMM_E_INVALID);
    EXPECT_OK(t, neomm_bootmap_add_uefi(&map, NULL, 0, 40));
    EXPECT_EQ(t, map.count, 0);
}

/* ---- Multiboot 2 ---- */

enum { END = 0, NAME = 2, MAP = 6, UEFI_MAP = 17, BOOT_SERVICES = 18 };

static uint8_t *begin_information(void)
{
    memset(words, 0xff, sizeof(words));
    return buffer + 8;
}

static uint8_t *pad(uint8_t *at)
{
    return buffer + NEOMM__ALIGN_UP((size_t)(at - buffer), 8);
}

static uint8_t *put_tag(uint8_t *at, uint32_t type, uint32_t size)
{
    return put(put(at, type, 4), size, 4);
}

/* Writes the end and the total; returns the total. */
static uint32_t end_information(uint8_t *at)
{
    at = put_tag(at, END, 8);
    (void)put(buffer, (uint64_t)(at - buffer), 4);
    return (uint32_t)(at - buffer);
}

static uint8_t *put_map_tag(uint8_t *at, uint32_t type, uint32_t item, uint32_t version,
                            uint32_t count)
{
    return put(put(put_tag(at, type, 16 + item * count), item, 4), version, 4);
}

/* A loader's name, a map of three entries of `item` bytes, and a tag that nobody knows. */
static uint32_t make_information(uint32_t item)
{
    uint8_t *at = pad(put_tag(begin_information(), NAME, 13) + 5);
    at = put_map_tag(at, MAP, item, 0, 3);
    (void)put_entry(at, 0, 0x9fc00, 1);
    (void)put_entry(at + item, PAGE(256), PAGE(9), 3);
    (void)put_entry(at + (size_t)2 * item, 0xfffc0000u, 0x40000, 77);
    return end_information(put_tag(pad(at + (size_t)3 * item), 0x1234, 8));
}

static const uint64_t entry_sizes[] = {24, 32, 40};

static void multiboot2(struct ktap *t)
{
    struct neomm_bootmap map;
    uint32_t bytes = make_information((uint32_t)t->parameter);
    neomm_bootmap_init(&map, storage, 8);
    EXPECT_OK(t, neomm_bootmap_add_multiboot2(&map, buffer, bytes));
    ASSERT(t, map.count == 3);
    EXPECT_EQ(t, storage[0].length, 0x9fc00);
    EXPECT_EQ(t, storage[0].type, NEOMM_MEMORY_USABLE);
    EXPECT_EQ(t, storage[1].base, PAGE(256));
    EXPECT_EQ(t, storage[1].type, NEOMM_MEMORY_ACPI);
    EXPECT_EQ(t, storage[2].base, 0xfffc0000u);
    EXPECT_EQ(t, storage[2].type, NEOMM_MEMORY_RESERVED);
    EXPECT_OK(t, neomm_bootmap_add_multiboot2(&map, buffer, UINT32_MAX));
    EXPECT_EQ(t, map.count, 6);
    EXPECT_EQ(t, neomm_bootmap_add_multiboot2(&map, buffer, UINT32_MAX), NEOMM_E_NOSPACE);
    EXPECT_EQ(t, map.dropped, 1);
}

/* What is cut off, by the reader's limit or by the total, is refused whole. */
static void multiboot2_cut(struct ktap *t)
{
    struct neomm_bootmap map;
    uint32_t whole = make_information(24);
    neomm_bootmap_init(&map, storage, 8);
    for (uint32_t bytes = 0; bytes < whole; bytes++) {
        EXPECT_EQ(t, neomm_bootmap_add_multiboot2(&map, buffer, bytes), NEOMM_E_INVALID);
        (void)put(buffer, bytes, 4);
        EXPECT_EQ(t, neomm_bootmap_add_multiboot2(&map, buffer, whole), NEOMM_E_INVALID);
        (void)put(buffer, whole, 4);
    }
    for (uint32_t shift = 1; shift < 8; shift++)
        EXPECT_EQ(t, neomm_bootmap_add_multiboot2(&map, buffer + shift, whole), NEOMM_E_ALIGN);
    EXPECT_EQ(t, map.count, 0);
    (void)put(buffer, whole + 100, 4);
    EXPECT_OK(t, neomm_bootmap_add_multiboot2(&map, buffer, whole + 100));
    EXPECT_EQ(t, map.count, 3);
}

/* Sizes that lie: of the tag, of the entries, of the end. */
static void multiboot2_lies(struct ktap *t)
{
    static const struct {
        uint32_t offset, value;
        neomm_status status;
    } lies[] = {
        {12, 7, NEOMM_E_INVALID}, /* the name's tag smaller than its head */
        {12, 0, NEOMM_E_INVALID},
        {12, 8, NEOMM_E_INVALID}, /* ... ends before its text */
        {12, 0xfffffff8u, NEOMM_E_INVALID},
        {12, 0xffffffffu, NEOMM_E_INVALID},
        {12, 16, NEOMM_OK},        /* ... padding included */
        {28, 15, NEOMM_E_INVALID}, /* the map's tag ends in its head */
        {28, 16, NEOMM_E_INVALID}, /* ... before its entries, which are no tags */
        {28, 87, NEOMM_E_INVALID}, /* ... inside an entry */
        {28, 0x7fffffff, NEOMM_E_INVALID},
        {32, 0, NEOMM_E_INVALID}, /* entries of no size */
        {32, 16, NEOMM_E_INVALID},
        {32, 20, NEOMM_E_INVALID},
        {32, 36, NEOMM_E_INVALID}, /* not a multiple of 8, 72 is one of it */
        {32, 48, NEOMM_E_INVALID}, /* 72 is not a multiple of it */
        {32, 0xfffffff8u, NEOMM_E_INVALID},
        {32, 72, NEOMM_OK},
        {36, 5, NEOMM_OK},          /* a later version */
        {4, 0xffffffffu, NEOMM_OK}, /* reserved */
        {24, 7, NEOMM_E_NOENT},     /* no map */
        {112, 0, NEOMM_OK},         /* the end a tag earlier */
        {124, 9, NEOMM_E_INVALID},  /* an end of another size */
        {120, 4, NEOMM_E_INVALID},  /* no end */
    };
    struct neomm_bootmap map;
    for (uint32_t i = 0; i < NEOMM__COUNT_OF(lies); i++) {
        uint32_t bytes = make_information(24);
        (void)put(buffer + lies[i].offset, lies[i].value, 4);
        neomm_bootmap_init(&map, storage, 8);
        neomm_status status = neomm_bootmap_add_multiboot2(&map, buffer, bytes);
        if (status != lies[i].status)
            ktap_note(t, "lie %u", i);
        EXPECT_EQ(t, status, lies[i].status);
        EXPECT(t, status == NEOMM_OK || map.count == 0);
    }
}

/* Both kinds of map, in each combination, and twice. */
static void multiboot2_uefi(struct ktap *t)
{
    struct neomm_bootmap map;
    for (unsigned kinds = 0; kinds < 8; kinds++) {
        uint8_t *at = begin_information();
        if (kinds & 1) {
            at = put_map_tag(at, UEFI_MAP, 48, 1, 2);
            (void)put_descriptor(at, 7, PAGE(1), 4, WB);
            (void)put_descriptor(at + 48, 8, PAGE(7), 1, WB);
            at += 96;
        }
        for (unsigned i = 0; i < 2 && (kinds & 2); i++)
            at = pad(put_entry(put_map_tag(at, MAP, 24, 0, 1), PAGE(i), PAGE(1), 1));
        if (kinds & 4)
            at = put_tag(at, BOOT_SERVICES, 8);
        uint32_t bytes = end_information(at);
        neomm_bootmap_init(&map, storage, 8);
        neomm_status want = kinds & 4 ? NEOMM_E_BUSY : kinds == 0 ? NEOMM_E_NOENT : NEOMM_OK;
        EXPECT_EQ(t, neomm_bootmap_add_multiboot2(&map, buffer, bytes), want);
        EXPECT_EQ(t, map.count, want == NEOMM_OK ? 2 : 0);
        if (want == NEOMM_OK)
            EXPECT_EQ(t, storage[1].type, kinds == 1 ? NEOMM_MEMORY_BAD : NEOMM_MEMORY_USABLE);
    }
    static const uint32_t sizes[] = {0, 39, 47, 96, 0xffffffffu};
    for (uint32_t i = 0; i < NEOMM__COUNT_OF(sizes); i++) {
        uint8_t *at = put_map_tag(begin_information(), UEFI_MAP, 48, 1, 2);
        memset(at, 0, 96);
        uint32_t bytes = end_information(at + 96);
        (void)put(buffer + 16, sizes[i], 4);
        neomm_bootmap_init(&map, storage, 8);
        EXPECT_EQ(t, neomm_bootmap_add_multiboot2(&map, buffer, bytes),
                  sizes[i] == 96 ? NEOMM_OK : NEOMM_E_INVALID);
    }
}

/* Broken tags behind which all goes on as it should. */
static void multiboot2_hidden(struct ktap *t)
{
    struct neomm_bootmap map;
    for (uint32_t size = 7; size <= 8; size++) {
        uint8_t *at = put_tag(begin_information(), NAME, size);
        at = pad(put_entry(put_map_tag(at, MAP, 24, 0, 1), 0, PAGE(1), 1));
        uint32_t bytes = end_information(at);
        neomm_bootmap_init(&map, storage, 8);
        EXPECT_EQ(t, neomm_bootmap_add_multiboot2(&map, buffer, bytes),
                  size == 7 ? NEOMM_E_INVALID : NEOMM_OK);
    }
    for (uint32_t item = 39; item <= 40; item++) {
        uint8_t *at = put_map_tag(begin_information(), MAP, 24, 0, 1);
        at = pad(put_entry(at, 0, PAGE(1), 1));
        at = put_map_tag(at, UEFI_MAP, item, 1, 2);
        uint32_t bytes = end_information(pad(at + (size_t)2 * item));
        neomm_bootmap_init(&map, storage, 8);
        EXPECT_EQ(t, neomm_bootmap_add_multiboot2(&map, buffer, bytes),
                  item == 39 ? NEOMM_E_INVALID : NEOMM_OK);
    }
    /* 2^32 - 1 is a multiple of 51: what a tag of 15 bytes seems to hold. */
    uint8_t *at = put(put(put_tag(begin_information(), UEFI_MAP, 15), 51, 4), 0, 4);
    uint32_t bytes = end_information(at);
    neomm_bootmap_init(&map, storage, 8);
    EXPECT_EQ(t, neomm_bootmap_add_multiboot2(&map, buffer, bytes), NEOMM_E_INVALID);
}

/* ---- sizes: 0 to 1000 entries come out as they went in, in every format ---- */

static void make_list(uint32_t count)
{
    static const enum neomm_memory_type kinds[] = {NEOMM_MEMORY_USABLE, NEOMM_MEMORY_ACPI,
                                                   NEOMM_MEMORY_NVS, NEOMM_MEMORY_BAD,
                                                   NEOMM_MEMORY_RESERVED};
    for (uint32_t i = 0; i < count; i++)
        list[i] = (struct neomm_boot_range){PAGE(neomm__mix(i) & 0xffffff),
                                            PAGE(neomm__mix(~i) & 0xfff), kinds[i % 5]};
}

static uint32_t e820_number(enum neomm_memory_type type)
{
    return type == NEOMM_MEMORY_USABLE ? 1
           : type == NEOMM_MEMORY_ACPI ? 3
           : type == NEOMM_MEMORY_NVS  ? 4
           : type == NEOMM_MEMORY_BAD  ? 5
                                       : 2;
}

static uint32_t uefi_number(enum neomm_memory_type type)
{
    return type == NEOMM_MEMORY_USABLE ? 7
           : type == NEOMM_MEMORY_ACPI ? 9
           : type == NEOMM_MEMORY_NVS  ? 10
           : type == NEOMM_MEMORY_BAD  ? 8
                                       : 0;
}

static neomm_status read_as(unsigned format, struct neomm_bootmap *map, uint32_t count)
{
    uint8_t *at = format == 3 ? put_map_tag(begin_information(), MAP, 24, 0, count) : buffer;
    for (uint32_t i = 0; i < count; i++) {
        if (format == 4) {
            at = put_descriptor(at, uefi_number(list[i].type), list[i].base,
                                list[i].length >> NEOMM_PAGE_SHIFT, WB);
            continue;
        }
        if (format == 2)
            at = put(at, 20, 4);
        at = put_entry(at, list[i].base, list[i].length, e820_number(list[i].type));
        at = format == 3 ? pad(at) : at;
    }
    uint32_t bytes = (uint32_t)(at - buffer);
    switch (format) {
    case 1:
        return neomm_bootmap_add_e820(map, buffer, count, 20);
    case 2:
        return neomm_bootmap_add_multiboot1(map, buffer, bytes);
    case 3:
        return neomm_bootmap_add_multiboot2(map, buffer, end_information(at));
    case 4:
        return neomm_bootmap_add_uefi(map, buffer, bytes, 40);
    default:
        return neomm_bootmap_add_list(map, list, count);
    }
}

static const uint64_t formats[] = {0, 1, 2, 3, 4};

static void counts(struct ktap *t)
{
    static const uint32_t many[] = {0, 1, 2, 31, 128, 999, 1000};
    for (uint32_t i = 0; i < NEOMM__COUNT_OF(many); i++) {
        struct neomm_bootmap map;
        make_list(many[i]);
        neomm_bootmap_init(&map, storage, ENTRIES_MAX);
        EXPECT_OK(t, read_as((unsigned)t->parameter, &map, many[i]));
        ASSERT(t, map.count == many[i]);
        for (uint32_t j = 0; j < many[i]; j++)
            EXPECT(t, storage[j].base == list[j].base && storage[j].length == list[j].length &&
                          storage[j].type == list[j].type);
        EXPECT_EQ(t, map.dropped, 0);
    }
}

static const struct ktap_case cases[] = {
    KTAP_CASE(types),
    KTAP_CASE_WITH(e820, strides),
    KTAP_CASE(multiboot1),
    KTAP_CASE(multiboot1_broken),
    KTAP_CASE(plain_list),
    KTAP_CASE(uefi_types),
    KTAP_CASE_WITH(uefi, descriptor_sizes),
    KTAP_CASE(uefi_sizes),
    KTAP_CASE_WITH(multiboot2, entry_sizes),
    KTAP_CASE(multiboot2_cut),
    KTAP_CASE(multiboot2_lies),
    KTAP_CASE(multiboot2_uefi),
    KTAP_CASE(multiboot2_hidden),
    KTAP_CASE_WITH(counts, formats),
};
KTAP_SUITE(bootmap_firmware, cases);
