/* The boot memory map against a model that paints every unit of 256 bytes.
 * SPDX-License-Identifier: MIT */
#include "ktap.h"

#include "base/bits.h"
#include "base/memory.h"

#include <neomm/pmm.h>

#define UNIT_SHIFT  8
#define PAGE_UNITS  16
#define PAGES_MAX   1024
#define UNITS_MAX   (PAGES_MAX * PAGE_UNITS)
#define ENTRIES_MAX 1000
#define NOTES       (NEOMM_BOOT_FULL + 1)

/* Where the painted part of the address space begins, and how much of it there is. */
struct canvas {
    neomm_paddr_t base;
    uint32_t pages;
    neomm_paddr_t limit; /* as given to resolve */
};

/* What should come out, and what did: by unit, a type or 0. */
struct picture {
    uint8_t page[PAGES_MAX];
    uint8_t note[NOTES][UNITS_MAX];
    uint32_t empty, wraps;
};

struct listener {
    struct ktap *t;
    const struct canvas *canvas;
    struct picture *picture;
    uint32_t calls;
};

static struct neomm_boot_range storage[3 * ENTRIES_MAX + 16];
static struct neomm_boot_range entries[ENTRIES_MAX];
static struct picture want, have;

static uint64_t next(uint64_t *seed)
{
    return neomm__mix(*seed += 0x9e3779b97f4a7c15u);
}

static uint32_t below(uint64_t *seed, uint32_t limit)
{
    return (uint32_t)next(seed) % limit;
}

/* ---- the model ---- */

static uint8_t worst[UNITS_MAX];
static bool usable[UNITS_MAX];

static void paint(const struct canvas *canvas, const struct neomm_boot_range *entry)
{
    uint64_t last = entry->base + (entry->length - 1);
    if (entry->length == 0) {
        want.empty++;
        return;
    }
    if (last < entry->base) {
        want.wraps++;
        last = UINT64_MAX;
    }
    uint64_t from = (entry->base - canvas->base) >> UNIT_SHIFT;
    uint64_t to = (last - canvas->base) >> UNIT_SHIFT;
    for (uint64_t unit = from; unit <= to; unit++) {
        if (entry->type > worst[unit])
            worst[unit] = (uint8_t)entry->type;
        usable[unit] |= entry->type == NEOMM_MEMORY_USABLE;
    }
}

/* Memory that may come later is as good as none beside memory that is there. */
static uint8_t judge_page(const uint8_t *units)
{
    uint8_t type = 0;
    uint32_t described = 0, coming = 0;
    for (uint32_t i = 0; i < PAGE_UNITS; i++) {
        type = units[i] > type ? units[i] : type;
        described += units[i] > NEOMM_MEMORY_HOTPLUG;
        coming += units[i] == NEOMM_MEMORY_HOTPLUG;
    }
    if (type == NEOMM_MEMORY_HOTPLUG)
        return coming == PAGE_UNITS ? type : 0;
    if (described == PAGE_UNITS || type == 0)
        return type;
    if (type == NEOMM_MEMORY_USABLE)
        return 0;
    return type <= NEOMM_MEMORY_ACPI ? NEOMM_MEMORY_RESERVED : type;
}

static void note_page(uint32_t page, enum neomm_boot_note note, uint8_t type)
{
    memset(&want.note[note][page * PAGE_UNITS], type, PAGE_UNITS);
}

static void note_rounded(const uint8_t *units, uint8_t *notes)
{
    uint32_t first = 0, end = PAGE_UNITS;
    while (first < end && units[first] != NEOMM_MEMORY_USABLE)
        first++;
    while (end > first && units[end - 1] != NEOMM_MEMORY_USABLE)
        end--;
    memset(notes + first, NEOMM_MEMORY_USABLE, end - first);
}

static void model(const struct canvas *canvas, uint32_t count)
{
    uint64_t limit = canvas->limit ? canvas->limit : (uint64_t)1 << 44;
    memset(worst, 0, sizeof(worst));
    memset(usable, 0, sizeof(usable));
    memset(&want, 0, sizeof(want));
    for (uint32_t i = 0; i < count; i++)
        paint(canvas, &entries[i]);
    for (uint32_t i = 0; i < canvas->pages * PAGE_UNITS; i++)
        if (usable[i] && worst[i] > NEOMM_MEMORY_USABLE)
            want.note[NEOMM_BOOT_OVERLAP][i] = worst[i];
    for (uint32_t page = 0; page < canvas->pages; page++) {
        uint64_t address = canvas->base + ((uint64_t)page << NEOMM_PAGE_SHIFT);
        uint8_t type = judge_page(&worst[page * PAGE_UNITS]);
        if (type != NEOMM_MEMORY_USABLE)
            note_rounded(&worst[page * PAGE_UNITS],
                         &want.note[NEOMM_BOOT_ROUNDED][page * PAGE_UNITS]);
        if (address >= limit) {
            note_page(page, NEOMM_BOOT_LIMIT, type);
            type = 0;
        }
        if (address == 0 && type != 0 && type <= NEOMM_MEMORY_ACPI) {
            note_page(page, NEOMM_BOOT_FRAME_ZERO, type);
            type = NEOMM_MEMORY_RESERVED;
        }
        want.page[page] = type;
    }
}

/* ---- what came out ---- */

static void listen(void *context, enum neomm_boot_note note, const struct neomm_boot_range *part)
{
    struct listener *listener = context;
    const struct canvas *canvas = listener->canvas;
    struct ktap *t = listener->t;
    listener->calls++;
    if (note == NEOMM_BOOT_EMPTY || note == NEOMM_BOOT_WRAPS) {
        EXPECT(t, note == NEOMM_BOOT_EMPTY ? part->length == 0
                                           : part->base + (part->length - 1) < part->base);
        listener->picture->empty += note == NEOMM_BOOT_EMPTY;
        listener->picture->wraps += note == NEOMM_BOOT_WRAPS;
        return;
    }
    uint64_t from = (part->base - canvas->base) >> UNIT_SHIFT;
    uint64_t count = part->length >> UNIT_SHIFT;
    ASSERT(t, count > 0 && from + count <= canvas->pages * PAGE_UNITS);
    for (uint64_t unit = from; unit < from + count; unit++) {
        EXPECT_EQ(t, listener->picture->note[note][unit], 0);
        listener->picture->note[note][unit] = (uint8_t)part->type;
    }
}

static void check_shape(struct ktap *t, const struct neomm_bootmap *map)
{
    neomm_paddr_t end = 0, usable_end = 0;
    for (uint32_t i = 0; i < map->count; i++) {
        const struct neomm_boot_range *range = &map->ranges[i];
        EXPECT(t, range->length != 0 && NEOMM__ALIGNED(range->base, NEOMM_PAGE_SIZE) &&
                      NEOMM__ALIGNED(range->length, NEOMM_PAGE_SIZE));
        EXPECT(t, i == 0 || range->base >= end);
        EXPECT(t, i == 0 || range->base > end || range->type != map->ranges[i - 1].type);
        end = range->base + range->length;
        usable_end = range->type == NEOMM_MEMORY_USABLE ? end : usable_end;
    }
    EXPECT_EQ(t, neomm_bootmap_end(map), usable_end);
}

static void read_pages(struct ktap *t, const struct canvas *canvas, const struct neomm_bootmap *map)
{
    for (uint32_t i = 0; i < map->count; i++) {
        uint64_t page = (map->ranges[i].base - canvas->base) >> NEOMM_PAGE_SHIFT;
        uint64_t count = map->ranges[i].length >> NEOMM_PAGE_SHIFT;
        ASSERT(t, page + count <= canvas->pages);
        memset(&have.page[page], (int)map->ranges[i].type, (size_t)count);
    }
}

static neomm_status resolve(struct ktap *t, const struct canvas *canvas, uint32_t count,
                            uint32_t capacity, struct neomm_bootmap *map)
{
    struct listener listener = {t, canvas, &have, 0};
    memset(&have, 0, sizeof(have));
    memset(storage, 0xee, sizeof(storage));
    neomm_bootmap_init(map, storage, capacity);
    for (uint32_t i = 0; i < count; i++)
        EXPECT_EQ(t, neomm_bootmap_add(map, entries[i].base, entries[i].length, entries[i].type),
                  i < capacity ? NEOMM_OK : NEOMM_E_NOSPACE);
    EXPECT(t, !map->resolved);
    neomm_status status = neomm_bootmap_resolve(map, canvas->limit, listen, &listener);
    if (status != NEOMM_OK)
        return status;
    EXPECT(t, map->resolved);
    check_shape(t, map);
    read_pages(t, canvas, map);
    return NEOMM_OK;
}

static void compare(struct ktap *t, const struct canvas *canvas, uint32_t count)
{
    static const char *const names[] = {"empty",      "wraps", "overlap", "rounded",
                                        "frame zero", "limit", "full"};
    uint32_t before = t->failures;
    EXPECT_EQ(t, have.empty, want.empty);
    EXPECT_EQ(t, have.wraps, want.wraps);
    for (uint32_t page = 0; page < canvas->pages; page++)
        if (have.page[page] != want.page[page]) {
            ktap_note(t, "page %u: type %u, should be %u", page, have.page[page], want.page[page]);
            EXPECT_EQ(t, have.page[page], want.page[page]);
            break;
        }
    for (unsigned note = NEOMM_BOOT_OVERLAP; note < NOTES; note++)
        if (memcmp(have.note[note], want.note[note], sizeof(have.note[note])) != 0) {
            ktap_note(t, "the notes of kind `%s` differ", names[note]);
            EXPECT(t, false);
        }
    if (t->failures != before)
        for (uint32_t i = 0; i < count && i < 8; i++)
            ktap_note(t, "entry %#llx + %#llx type %u", (unsigned long long)entries[i].base,
                      (unsigned long long)entries[i].length, entries[i].type);
}

/* ---- entries ---- */

/* Few long entries or many short ones, some empty, some beyond the end if that is 2^64. */
static void make_entries(uint64_t *seed, const struct canvas *canvas, uint32_t count)
{
    uint32_t units = canvas->pages * PAGE_UNITS;
    uint32_t longest = below(seed, 2) ? units : units / 16 + 1;
    bool top = canvas->base + ((uint64_t)canvas->pages << NEOMM_PAGE_SHIFT) == 0;
    uint32_t grain = below(seed, 3) == 0 ? PAGE_UNITS : 1;
    uint32_t types = below(seed, 3) == 0 ? NEOMM_MEMORY_BOOT : NEOMM_MEMORY_BAD;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t first = below(seed, units) / grain * grain;
        uint32_t length = below(seed, longest) / grain * grain;
        if (!top && length > units - first)
            length = units - first;
        entries[i].base = canvas->base + ((uint64_t)first << UNIT_SHIFT);
        entries[i].length = (uint64_t)length << UNIT_SHIFT;
        entries[i].type = (enum neomm_memory_type)(1 + below(seed, types));
    }
}

static const struct canvas canvases[] = {
    {0, 64, 0},
    {0, PAGES_MAX, 0},
    {0, PAGES_MAX, (uint64_t)700 << NEOMM_PAGE_SHIFT},
    {0, 64, ((uint64_t)40 << NEOMM_PAGE_SHIFT) + 77},
    {((uint64_t)1 << 32) - ((uint64_t)50 << NEOMM_PAGE_SHIFT), 100, (uint64_t)1 << 32},
    {((uint64_t)1 << 44) - ((uint64_t)500 << NEOMM_PAGE_SHIFT), PAGES_MAX, 0},
    {((uint64_t)1 << 44) - ((uint64_t)32 << NEOMM_PAGE_SHIFT), 64, (uint64_t)1 << 50},
    {0 - ((uint64_t)300 << NEOMM_PAGE_SHIFT), 300, 0},
};

/* The limit of the model is what the library rounds it to. */
static void model_of(const struct canvas *canvas, uint32_t count)
{
    struct canvas rounded = *canvas;
    rounded.limit &= ~(uint64_t)(NEOMM_PAGE_SIZE - 1);
    if (rounded.limit > (uint64_t)1 << 44)
        rounded.limit = (uint64_t)1 << 44;
    model(&rounded, count);
}

static const uint64_t numbers[] = {0, 1, 2, 3, 4, 5, 6, 7};

static void random_maps(struct ktap *t)
{
    const struct canvas *canvas = &canvases[t->parameter];
    uint64_t seed = 100 + t->parameter;
    for (unsigned round = 0; round < 400 && t->failures == 0; round++) {
        struct neomm_bootmap map;
        uint32_t count = round % 50 == 0 ? ENTRIES_MAX : below(&seed, round % 5 == 0 ? 120 : 12);
        make_entries(&seed, canvas, count);
        model_of(canvas, count);
        EXPECT_OK(t, resolve(t, canvas, count, 3 * count + 16, &map));
        compare(t, canvas, count);
    }
}

/* Resolving what is resolved changes nothing and has nothing to say. */
static void twice(struct ktap *t)
{
    const struct canvas *canvas = &canvases[t->parameter];
    uint64_t seed = 200 + t->parameter;
    for (unsigned round = 0; round < 50 && t->failures == 0; round++) {
        struct neomm_bootmap map;
        uint32_t count = below(&seed, 60);
        struct listener listener = {t, canvas, &have, 0};
        make_entries(&seed, canvas, count);
        EXPECT_OK(t, resolve(t, canvas, count, 3 * count + 16, &map));
        uint32_t before = map.count;
        memcpy(entries, storage, before * sizeof(storage[0]));
        EXPECT_OK(t, neomm_bootmap_resolve(&map, canvas->limit, listen, &listener));
        EXPECT_EQ(t, map.count, before);
        EXPECT_EQ(t, listener.calls, 0);
        for (uint32_t i = 0; i < before; i++)
            EXPECT(t, entries[i].base == storage[i].base && entries[i].type == storage[i].type &&
                          entries[i].length == storage[i].length);
    }
}

/* All pairs of entries over three pages in half pages, of all types; a fifth of all triples of
 * four types. */
static struct neomm_boot_range small_entry(uint32_t number, const uint8_t *types, uint32_t count)
{
    static const uint8_t spans[21][2] = {{0, 1}, {0, 2}, {0, 3}, {0, 4}, {0, 5}, {0, 6}, {1, 2},
                                         {1, 3}, {1, 4}, {1, 5}, {1, 6}, {2, 3}, {2, 4}, {2, 5},
                                         {2, 6}, {3, 4}, {3, 5}, {3, 6}, {4, 5}, {4, 6}, {5, 6}};
    const uint8_t *span = spans[number / count % 21];
    return (struct neomm_boot_range){(uint64_t)span[0] * 2048, (uint64_t)(span[1] - span[0]) * 2048,
                                     (enum neomm_memory_type)types[number % count]};
}

static void exhaustive(struct ktap *t)
{
    static const uint8_t all[] = {1, 2, 3, 4, 5, 6, 7, 8};
    static const uint8_t some[] = {NEOMM_MEMORY_HOTPLUG, NEOMM_MEMORY_USABLE, NEOMM_MEMORY_ACPI,
                                   NEOMM_MEMORY_RESERVED};
    static const struct canvas canvas = {0, 3, 0};
    struct neomm_bootmap map;
    for (uint32_t a = 0; a < 21 * 8 && t->failures == 0; a++)
        for (uint32_t b = 0; b < 21 * 8; b++) {
            entries[0] = small_entry(a, all, 8);
            entries[1] = small_entry(b, all, 8);
            model(&canvas, 2);
            EXPECT_OK(t, resolve(t, &canvas, 2, 22, &map));
            compare(t, &canvas, 2);
        }
    for (uint32_t i = 0; i < 84 * 84 * 84 && t->failures == 0; i += 5) {
        entries[0] = small_entry(i % 84, some, 4);
        entries[1] = small_entry(i / 84 % 84, some, 4);
        entries[2] = small_entry(i / 84 / 84, some, 4);
        model(&canvas, 3);
        EXPECT_OK(t, resolve(t, &canvas, 3, 25, &map));
        compare(t, &canvas, 3);
    }
}

/* With storage for the entries only, every frame is in the map or in a FULL note. */
static void little_storage(struct ktap *t)
{
    static const struct canvas canvas = {0, 64, 0};
    uint64_t seed = 3;
    uint32_t lost = 0;
    for (unsigned round = 0; round < 2000 && t->failures == 0; round++) {
        struct neomm_bootmap map;
        uint32_t count = 1 + below(&seed, 40), extra = below(&seed, count);
        make_entries(&seed, &canvas, count);
        model(&canvas, count);
        EXPECT_OK(t, resolve(t, &canvas, count, count + extra, &map));
        EXPECT(t, map.count <= count + extra);
        for (uint32_t page = 0; page < canvas.pages; page++) {
            uint8_t full = have.note[NEOMM_BOOT_FULL][page * PAGE_UNITS];
            EXPECT_EQ(t, full == 0 ? have.page[page] : full, want.page[page]);
            EXPECT(t, full == 0 || have.page[page] == 0);
            lost += full != 0;
        }
    }
    EXPECT(t, lost > 0);
}

/* Dropping an entry of memory that is or may become usable loses memory; dropping another one is
 * refused, for good. */
static void dropped(struct ktap *t)
{
    struct neomm_bootmap map;
    neomm_bootmap_init(&map, storage, 1);
    EXPECT_OK(t, neomm_bootmap_add(&map, 0x1000, 0x9000, NEOMM_MEMORY_USABLE));
    EXPECT_EQ(t, neomm_bootmap_add(&map, 0x20000, 0x1000, NEOMM_MEMORY_USABLE), NEOMM_E_NOSPACE);
    EXPECT_EQ(t, neomm_bootmap_add(&map, 0x30000, 0x1000, NEOMM_MEMORY_HOTPLUG), NEOMM_E_NOSPACE);
    EXPECT_EQ(t, neomm_bootmap_add(&map, 0, 0, NEOMM_MEMORY_BAD), NEOMM_E_NOSPACE);
    EXPECT_EQ(t, map.dropped, 3);
    EXPECT_OK(t, neomm_bootmap_resolve(&map, 0, NULL, NULL));
    EXPECT_EQ(t, map.count, 1);
    EXPECT_EQ(t, neomm_bootmap_add(&map, 0x2000, 0x1000, NEOMM_MEMORY_RESERVED), NEOMM_E_NOSPACE);
    EXPECT(t, !map.resolved);
    EXPECT_EQ(t, neomm_bootmap_resolve(&map, 0, NULL, NULL), NEOMM_E_NOSPACE);
    EXPECT_EQ(t, map.count, 1);
    EXPECT(t, !map.resolved);
}

/* Of an entry that goes one byte beyond a worse one, that byte counts. */
static void one_byte(struct ktap *t)
{
    struct neomm_bootmap map;
    neomm_bootmap_init(&map, storage, 32);
    EXPECT_OK(t, neomm_bootmap_add(&map, 0x3000, 0x3000, NEOMM_MEMORY_USABLE));
    EXPECT_OK(t, neomm_bootmap_add(&map, 0x1000, 0x2001, NEOMM_MEMORY_RESERVED));
    EXPECT_OK(t, neomm_bootmap_add(&map, 0x1000, 0x2000, NEOMM_MEMORY_BAD));
    EXPECT_OK(t, neomm_bootmap_resolve(&map, 0, NULL, NULL));
    ASSERT(t, map.count == 3);
    EXPECT_EQ(t, map.ranges[1].base, 0x3000);
    EXPECT_EQ(t, map.ranges[1].type, NEOMM_MEMORY_RESERVED);
    EXPECT_EQ(t, map.ranges[2].base, 0x4000);
    EXPECT_EQ(t, map.ranges[2].type, NEOMM_MEMORY_USABLE);
}

/* A frame that two entries of memory to come make up is one; one byte of anything else, and it is
 * not, and one byte of it does not complete a usable frame. */
static void to_come(struct ktap *t)
{
    struct neomm_bootmap map;
    neomm_bootmap_init(&map, storage, 64);
    EXPECT_OK(t, neomm_bootmap_add(&map, 0x1000, 0x10, NEOMM_MEMORY_HOTPLUG));
    EXPECT_OK(t, neomm_bootmap_add(&map, 0x1010, 0x1ff0, NEOMM_MEMORY_HOTPLUG));
    EXPECT_OK(t, neomm_bootmap_add(&map, 0x3000, 0xfff, NEOMM_MEMORY_USABLE));
    EXPECT_OK(t, neomm_bootmap_add(&map, 0x3fff, 0x2001, NEOMM_MEMORY_HOTPLUG));
    EXPECT_OK(t, neomm_bootmap_add(&map, 0x5000, 1, NEOMM_MEMORY_KERNEL));
    EXPECT_OK(t, neomm_bootmap_add(&map, 0x0, 0x1000, NEOMM_MEMORY_HOTPLUG));
    EXPECT_OK(t, neomm_bootmap_resolve(&map, 0, NULL, NULL));
    ASSERT(t, map.count == 4);
    EXPECT_EQ(t, map.ranges[0].type, NEOMM_MEMORY_RESERVED);
    EXPECT_EQ(t, map.ranges[1].base, 0x1000);
    EXPECT_EQ(t, map.ranges[1].length, 0x2000);
    EXPECT_EQ(t, map.ranges[1].type, NEOMM_MEMORY_HOTPLUG);
    EXPECT_EQ(t, map.ranges[2].base, 0x4000);
    EXPECT_EQ(t, map.ranges[2].length, 0x1000);
    EXPECT_EQ(t, map.ranges[2].type, NEOMM_MEMORY_HOTPLUG);
    EXPECT_EQ(t, map.ranges[3].type, NEOMM_MEMORY_KERNEL);
    EXPECT_EQ(t, neomm_bootmap_end(&map), 0);
}

/* A kernel resolves first and reserves its own memory then. */
static void added_later(struct ktap *t)
{
    struct neomm_bootmap map;
    neomm_bootmap_init(&map, storage, 32);
    EXPECT_OK(t, neomm_bootmap_resolve(&map, 0, NULL, NULL));
    EXPECT_EQ(t, map.count, 0);
    EXPECT_EQ(t, neomm_bootmap_end(&map), 0);
    EXPECT_OK(t, neomm_bootmap_add(&map, 0x100000, 0x100000, NEOMM_MEMORY_USABLE));
    EXPECT_OK(t, neomm_bootmap_resolve(&map, 0, NULL, NULL));
    EXPECT_OK(t, neomm_bootmap_add(&map, 0x140000, 0x100, NEOMM_MEMORY_KERNEL));
    EXPECT_OK(t, neomm_bootmap_resolve(&map, 0, NULL, NULL));
    ASSERT(t, map.count == 3);
    EXPECT_EQ(t, map.ranges[1].base, 0x140000);
    EXPECT_EQ(t, map.ranges[1].length, 0x1000);
    EXPECT_EQ(t, map.ranges[1].type, NEOMM_MEMORY_KERNEL);
    EXPECT_EQ(t, neomm_bootmap_end(&map), 0x200000);
    EXPECT_EQ(t, neomm_bootmap_add(&map, 0, 1, (enum neomm_memory_type)0), NEOMM_E_INVALID);
    EXPECT_EQ(t, neomm_bootmap_add(&map, 0, 1, (enum neomm_memory_type)(NEOMM_MEMORY_BAD + 1)),
              NEOMM_E_INVALID);
}

/* Two entries that cover all of 2^64 between them. */
static void everything(struct ktap *t)
{
    struct neomm_bootmap map;
    neomm_bootmap_init(&map, storage, 32);
    EXPECT_OK(t, neomm_bootmap_add(&map, 0, UINT64_MAX, NEOMM_MEMORY_USABLE));
    EXPECT_OK(t, neomm_bootmap_add(&map, UINT64_MAX, 1, NEOMM_MEMORY_USABLE));
    EXPECT_OK(t, neomm_bootmap_resolve(&map, 0, NULL, NULL));
    ASSERT(t, map.count == 2);
    EXPECT_EQ(t, map.ranges[0].length, NEOMM_PAGE_SIZE);
    EXPECT_EQ(t, map.ranges[0].type, NEOMM_MEMORY_RESERVED);
    EXPECT_EQ(t, neomm_bootmap_end(&map), (uint64_t)1 << 44);
    EXPECT_OK(t, neomm_bootmap_resolve(&map, 0x2fff, NULL, NULL));
    EXPECT_EQ(t, neomm_bootmap_end(&map), 0x2000);
    EXPECT_OK(t, neomm_bootmap_resolve(&map, 1, NULL, NULL));
    EXPECT_EQ(t, map.count, 0);
}

static const struct ktap_case cases[] = {
    KTAP_CASE_WITH(random_maps, numbers),
    KTAP_CASE_WITH(twice, numbers),
    KTAP_CASE(exhaustive),
    KTAP_CASE(little_storage),
    KTAP_CASE(dropped),
    KTAP_CASE(one_byte),
    KTAP_CASE(to_come),
    KTAP_CASE(added_later),
    KTAP_CASE(everything),
};
KTAP_SUITE(bootmap, cases);
