/* Guarded objects: what is caught, what is said about it, and how the program goes on.
 * SPDX-License-Identifier: MIT
 *
 * Cases with the intent of those of KFENCE's KUnit suite (Linux, mm/kfence/kfence_test.c):
 *   out_of_bounds_read, out_of_bounds_write   reads_and_writes_beside
 *   use_after_free_read                       use_after_free
 *   double_free, invalid_addr_free            bad_frees
 *   corruption                                damage_is_found_by_kfree
 *   free_bulk, memcache_alloc_bulk            in_bulk
 *   init_on_free, gfpzero                     contents
 *   kmalloc_aligned_oob_read, ..._write       alignment, damage_is_found_by_kfree
 *   shrink_memcache, memcache_ctor            object_caches
 *   krealloc                                  krealloc_moves
 *   invalid_access                            wild_accesses
 * Not here: memcache_typesafe_by_rcu (there is no RCU), use_after_free_read_nofault (a copy that
 * may fail is the kernel's own).
 */
#include "guard_box.h"

/* ---- accesses beside an object ---- */

static void beside(struct ktap *t, struct guard_box *g, size_t size, bool before, bool write)
{
    uint32_t count = g->findings.count;
    uint8_t *block = take_guarded(g, size, before ? AT_START : AT_END);
    ASSERT(t, block != NULL);
    uint8_t *at = before ? guess((uintptr_t)block - 1) : guess((uintptr_t)block + size);
    block[0] = block[size - 1] = 7;
    EXPECT(t, !faults(t, g, block, write) && !faults(t, g, block + size - 1, write));
    EXPECT(t, faults(t, g, at, write));
    expect_report(t, g, count + 1, NEOMM_HEAP_ACCESS_OUTSIDE, block, at - block);
    const struct neomm_heap_report *last = &g->findings.last;
    EXPECT(t, last->live);
    EXPECT_EQ(t, last->size, size);
    EXPECT_EQ(t, (uintptr_t)last->pointer, (uintptr_t)at);
    ASSERT(t, last->allocated.site != NULL);
    EXPECT(t, strcmp(last->allocated.site->function, "take") == 0);
    EXPECT(t, !last->freed.site && last->freed.address == 0);
    /* It is said once; the program goes on, and may free the object. */
    EXPECT(t, !faults(t, g, at, write));
    uintptr_t page = page_of(block);
    EXPECT_OK(t, neomm_kfree(g->root, block));
    EXPECT_EQ(t, g->findings.count, count + 1);
    expect_retired(t, g, page);
}

static void reads_and_writes_beside(struct ktap *t)
{
    static const size_t sizes[] = {16, 48, 1024, 2000, 4096};
    struct guard_box g;
    uint32_t reports = 0;
    if (!guard_open_in(t, &g, (enum neomm_format)t->parameter, 1, 1))
        return;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]) && t->failures == 0; i++)
        for (unsigned way = 0; way < 4; way++, reports++)
            beside(t, &g, sizes[i], way & 1, way & 2);
    guard_close(t, &g, reports);
}

/* Two objects of a page each, with one page between them. */
static void take_neighbours(struct ktap *t, struct guard_box *g, uint8_t **left, uint8_t **right)
{
    uint8_t *block[MOST];
    for (uint32_t i = 0; i < MOST; i++)
        ASSERT(t, (block[i] = take_guarded(g, 4096, ANYWHERE)) != NULL);
    *left = *right = block[0];
    for (uint32_t i = 0; i < MOST; i++) {
        *left = page_of(block[i]) < page_of(*left) ? block[i] : *left;
        EXPECT_EQ(t, (uintptr_t)block[i] % PAGE, 0);
    }
    for (uint32_t i = 0; i < MOST; i++)
        if (page_of(block[i]) == page_of(*left) + 2)
            *right = block[i];
    for (uint32_t i = 0; i < MOST; i++)
        if (block[i] != *left && block[i] != *right)
            EXPECT_OK(t, neomm_kfree(g->root, block[i]));
}

/* An access between two objects: of the live one, or the nearer of two that are alike. */
static void whose_access_it_is(struct ktap *t)
{
    enum { NEAR_LEFT, NEAR_RIGHT, LEFT_FREE, RIGHT_FREE, BOTH_FREE };
    struct guard_box g;
    uint8_t *left = NULL, *right = NULL;
    if (!guard_open(t, &g, 1, 1))
        return;
    take_neighbours(t, &g, &left, &right);
    ASSERT(t, right == left + 2 * PAGE);
    uintptr_t end = (uintptr_t)left + PAGE, start = (uintptr_t)right;
    bool left_free = t->parameter == LEFT_FREE || t->parameter == BOTH_FREE;
    bool right_free = t->parameter == RIGHT_FREE || t->parameter == BOTH_FREE;
    bool near_left = t->parameter == NEAR_LEFT || t->parameter == LEFT_FREE;
    bool is_left = t->parameter == NEAR_LEFT || t->parameter == RIGHT_FREE;
    if (left_free)
        EXPECT_OK(t, neomm_kfree(g.root, left));
    if (right_free)
        EXPECT_OK(t, neomm_kfree(g.root, right));
    uintptr_t at = near_left ? end + 2047 : start - 2047;
    EXPECT(t, faults(t, &g, guess(at), false));
    expect_report(t, &g, 1, NEOMM_HEAP_ACCESS_OUTSIDE, guess(is_left ? end - PAGE : start),
                  is_left ? (ptrdiff_t)(at - (end - PAGE)) : -(ptrdiff_t)(start - at));
    EXPECT_EQ(t, g.findings.last.live, t->parameter != BOTH_FREE);
    if (!left_free)
        EXPECT_OK(t, neomm_kfree(g.root, guess(end - PAGE)));
    if (!right_free)
        EXPECT_OK(t, neomm_kfree(g.root, guess(start)));
    guard_close(t, &g, 1);
}

/* ---- after the end ---- */

static void use_after_free(struct ktap *t)
{
    struct guard_box g;
    uint32_t reports = 0;
    if (!guard_open_in(t, &g, (enum neomm_format)t->parameter, 1, 1))
        return;
    for (size_t size = 1; size <= 4096; size = size * 3 + 1)
        for (unsigned write = 0; write < 2; write++) {
            uint8_t *block = take_guarded(&g, size, ANYWHERE);
            ASSERT(t, block != NULL);
            uintptr_t address = (uintptr_t)block;
            EXPECT_OK(t, neomm_kfree(g.root, block));
            neomm_heap_settle(g.root);
            EXPECT(t, faults(t, &g, guess(address + size / 2), write));
            expect_report(t, &g, ++reports, NEOMM_HEAP_ACCESS_AFTER_FREE, guess(address),
                          (ptrdiff_t)size / 2);
            EXPECT(t, !g.findings.last.live);
            EXPECT_EQ(t, g.findings.last.size, size);
            EXPECT(t, g.findings.last.allocated.site != NULL);
            EXPECT(t, g.findings.last.freed.address != 0);
            expect_retired(t, &g, page_of(guess(address)));
        }
    env_fsck(t, &g.box.env);
    guard_close(t, &g, reports);
}

/* With interrupts masked, or a lock held, nobody else may be waited for: the page goes later, and
 * what is written to it until then is found there. */
static void freed_with_interrupts_masked(struct ktap *t)
{
    struct guard_box g;
    if (!guard_open(t, &g, 1, 2))
        return;
    uint8_t *block = take_guarded(&g, 100, ANYWHERE), *other = take_guarded(&g, 100, AT_START);
    ASSERT(t, block && other);
    uintptr_t address = (uintptr_t)block, second = (uintptr_t)other;
    neomm_heap_settle(g.root);
    uint64_t stores = box_counter(&g.box, NEOMM_COUNTER_ENTRY_STORE);
    uint64_t calls = box_counter(&g.box, NEOMM_COUNTER_SHOOTDOWN);
    neomm_irq_t irq = neomm_port_irq_save();
    EXPECT_OK(t, neomm_kfree(g.root, block));
    EXPECT_OK(t, neomm_kfree(g.root, other));
    EXPECT_OK(t, neomm_kfree(g.root, take(&g.box, 100, NEOMM_ATOMIC)));
    EXPECT_EQ(t, neomm_kfree(g.root, guess(address)), NEOMM_E_DOUBLE_FREE);
    neomm_port_irq_restore(irq);
    EXPECT_EQ(t, box_counter(&g.box, NEOMM_COUNTER_ENTRY_STORE), stores);
    EXPECT_EQ(t, box_counter(&g.box, NEOMM_COUNTER_SHOOTDOWN), calls);
    EXPECT_EQ(t, objects(&g.box), 0);
    EXPECT(t, !faults(t, &g, guess(second + 3), true));
    env_fsck(t, &g.box.env);
    EXPECT_OK(t, neomm_kfree(g.root, take(&g.box, 5000, 0)));
    EXPECT_OK(t, neomm_kfree(g.root, take(&g.box, 100, 0)));
    expect_report(t, &g, 2, NEOMM_HEAP_WRITE_AFTER_FREE, guess(second), 3);
    EXPECT(t, !g.findings.last.live && g.findings.last.freed.address != 0);
    EXPECT(t, faults(t, &g, guess(address), false));
    expect_report(t, &g, 3, NEOMM_HEAP_ACCESS_AFTER_FREE, guess(address), 0);
    expect_retired(t, &g, page_of(guess(second)));
    guard_close(t, &g, 3);
}

/* Without sampling the pages go when no object lives on them, and come back with it, as good as
 * new: those that were spent, too. */
static void pages_come_and_go(struct ktap *t)
{
    struct guard_box g;
    if (!guard_open(t, &g, 1, 2))
        return;
    uint8_t *block = take_guarded(&g, 100, AT_END), *spent = take_guarded(&g, 100, AT_START);
    ASSERT(t, block && spent);
    uintptr_t gone = (uintptr_t)spent;
    *guess((uintptr_t)spent + 100) = 1;
    EXPECT_OK(t, neomm_kfree(g.root, spent));
    EXPECT_OK(t, neomm_heap_set_sampling(g.root, 0));
    EXPECT(t, guard_free_frames(&g) + 2 * MOST < g.free_before);
    EXPECT(t, faults(t, &g, guess((uintptr_t)block + 112), false));
    EXPECT_OK(t, neomm_kfree(g.root, block));
    EXPECT_EQ(t, guard_free_frames(&g), g.free_before);
    EXPECT(t, !neomm_heap_fault(g.root, guess(gone)));
    EXPECT(t, !is_guarded(&g, take_guarded(&g, 100, ANYWHERE)));
    env_fsck(t, &g.box.env);
    EXPECT_OK(t, neomm_heap_set_sampling(g.root, 1));
    void *held[MOST];
    for (uint32_t i = 0; i < MOST; i++)
        ASSERT(t, (held[i] = take_guarded(&g, 100, ANYWHERE)) != NULL);
    for (uint32_t i = 0; i < MOST; i++)
        EXPECT_OK(t, neomm_kfree(g.root, held[i]));
    EXPECT_OK(t, neomm_heap_set_profile(g.root, NULL, NEOMM_HEAP_FAST));
    EXPECT_EQ(t, guard_free_frames(&g), g.free_before);
    EXPECT_OK(t, neomm_heap_set_profile(g.root, NULL, NEOMM_HEAP_GUARDED));
    EXPECT(t, guard_free_frames(&g) + 2 * MOST < g.free_before);
    guard_close(t, &g, 2);
}

/* The page of an object that was freed is used again after all the others. */
static void late_reuse(struct ktap *t)
{
    struct guard_box g;
    uintptr_t page[4 * MOST];
    if (!guard_open(t, &g, 1, 1))
        return;
    for (uint32_t i = 0; i < 4 * MOST; i++) {
        uint8_t *block = take_guarded(&g, 100, ANYWHERE);
        ASSERT(t, block != NULL);
        page[i] = page_of(block);
        EXPECT_OK(t, neomm_kfree(g.root, block));
        for (uint32_t j = i < MOST ? 0 : i - MOST + 1; j < i; j++)
            EXPECT(t, page[j] != page[i]);
    }
    guard_close(t, &g, 0);
}

/* ---- frees ---- */

static void refused(struct ktap *t, struct guard_box *g, uintptr_t address, neomm_status want,
                    enum neomm_heap_error error, const uint8_t *object)
{
    uint32_t count = g->findings.count;
    uint64_t live = objects(&g->box);
    EXPECT_EQ(t, neomm_kfree(g->root, guess(address)), want);
    expect_report(t, g, count + 1, error, object, (ptrdiff_t)(address - (uintptr_t)object));
    EXPECT_EQ(t, neomm_kfree_nolock(g->root, guess(address)), want);
    EXPECT_EQ(t, neomm_ksize(g->root, guess(address)), 0);
    EXPECT(t, neomm_krealloc(g->root, guess(address), 10, 0) == NULL);
    EXPECT_EQ(t, g->findings.last.error, error);
    EXPECT_EQ(t, neomm_kfree_sized(g->root, guess(address), 1), want);
    EXPECT_EQ(t, g->findings.last.error, error);
    EXPECT_EQ(t, g->findings.count, count + 3);
    EXPECT_EQ(t, objects(&g->box), live);
}

static void bad_frees(struct ktap *t)
{
    struct guard_box g;
    if (!guard_open(t, &g, 1, 1))
        return;
    struct neomm_kmem *other = neomm_kmem_for(g.root, 2000);
    uint8_t *block = take_guarded(&g, 100, ANYWHERE);
    ASSERT(t, block != NULL);
    uintptr_t address = (uintptr_t)block;
    refused(t, &g, address + 1, NEOMM_E_INVALID, NEOMM_HEAP_INVALID_FREE, block);
    refused(t, &g, address + 99, NEOMM_E_INVALID, NEOMM_HEAP_INVALID_FREE, block);
    refused(t, &g, address + PAGE, NEOMM_E_FOREIGN, NEOMM_HEAP_FOREIGN_FREE, block);
    refused(t, &g, address - PAGE, NEOMM_E_FOREIGN, NEOMM_HEAP_FOREIGN_FREE, block);
    EXPECT(t, g.findings.last.live);
    EXPECT_EQ(t, neomm_kmem_free(g.root, other, guess(address)), NEOMM_E_FOREIGN);
    EXPECT_EQ(t, neomm_kfree_sized(g.root, guess(address), 101), NEOMM_E_INVALID);
    EXPECT_OK(t, neomm_kfree_sized(g.root, guess(address), 100));
    refused(t, &g, address, NEOMM_E_DOUBLE_FREE, NEOMM_HEAP_DOUBLE_FREE, guess(address));
    EXPECT(t, !g.findings.last.live && g.findings.last.freed.address != 0);
    refused(t, &g, address + 16, NEOMM_E_DOUBLE_FREE, NEOMM_HEAP_DOUBLE_FREE, guess(address));
    env_fsck(t, &g.box.env);
    guard_close(t, &g, 6 * 3 + 2);
}

/* Written to behind, or before, on the page of the object. */
static void damage(struct ktap *t, struct guard_box *g, size_t size, enum guard_place place,
                   ptrdiff_t offset)
{
    uint32_t count = g->findings.count;
    uint8_t *block = take_guarded(g, size, place);
    ASSERT(t, block != NULL);
    uintptr_t address = (uintptr_t)block;
    uint8_t *at = guess(address + (uintptr_t)offset);
    memset(block, 0x5a, size);
    EXPECT(t, !faults(t, g, at, true));
    EXPECT_EQ(t, neomm_fsck(g->root, NULL, NULL), 1);
    EXPECT_OK(t, neomm_kfree(g->root, block));
    expect_report(t, g, count + 1, NEOMM_HEAP_OVERRUN, guess(address), offset);
    EXPECT(t, g->findings.last.freed.address != 0);
    expect_retired(t, g, page_of(guess(address)));
}

static void damage_is_found_by_kfree(struct ktap *t)
{
    struct guard_box g;
    if (!guard_open(t, &g, 1, 1))
        return;
    damage(t, &g, 73, AT_END, 73);
    damage(t, &g, 73, AT_END, 79);
    damage(t, &g, 4089, AT_END, 4095);
    damage(t, &g, 64, AT_END, -1);
    damage(t, &g, 64, AT_END, -(ptrdiff_t)(PAGE - 64));
    damage(t, &g, 64, AT_START, 64);
    damage(t, &g, 1, AT_START, PAGE - 1);
    env_fsck(t, &g.box.env);
    guard_close(t, &g, 7);
}

/* Where nothing may be waited for, freeing is put off: the object is gone all the same. */
static void freed_without_waiting(struct ktap *t)
{
    struct guard_box g;
    if (!guard_open(t, &g, 1, 1))
        return;
    uint8_t *block = take_guarded(&g, 3, ANYWHERE), *other = take_guarded(&g, 3, ANYWHERE);
    ASSERT(t, block && other);
    uintptr_t address = (uintptr_t)block;
    EXPECT_OK(t, neomm_kfree_nolock(g.root, block));
    EXPECT_EQ(t, neomm_ksize(g.root, guess(address)), 0);
    EXPECT_EQ(t, neomm_kfree(g.root, guess(address)), NEOMM_E_DOUBLE_FREE);
    EXPECT_EQ(t, neomm_kfree_nolock(g.root, guess(address)), NEOMM_E_DOUBLE_FREE);
    EXPECT_EQ(t, g.findings.count, 1);
    EXPECT_EQ(t, objects(&g.box), 2);
    env_fsck(t, &g.box.env);
    (void)neomm_heap_shrink(g.root);
    EXPECT_EQ(t, objects(&g.box), 1);
    EXPECT(t, faults(t, &g, guess(address), false));
    expect_report(t, &g, 2, NEOMM_HEAP_ACCESS_AFTER_FREE, guess(address), 0);
    EXPECT(t, g.findings.last.freed.address != 0);
    EXPECT_OK(t, neomm_kfree(g.root, other));
    guard_close(t, &g, 2);
}

/* ---- contents, alignment, sizes ---- */

static void alignment(struct ktap *t)
{
    struct guard_box g;
    if (!guard_open(t, &g, 1, 1))
        return;
    for (size_t size = 1; size <= 4096; size += size < 300 ? 1 : 41) {
        uint8_t *block = take_guarded(&g, size, ANYWHERE);
        ASSERT(t, block != NULL);
        EXPECT_EQ(t, (uintptr_t)block % alignment_of(size), 0);
        EXPECT_EQ(t, neomm_ksize(g.root, block), size);
        pattern_fill(block, size, (uint32_t)size);
        EXPECT(t, pattern_holds(block, size, (uint32_t)size));
        EXPECT_OK(t, neomm_kfree(g.root, block));
    }
    for (size_t size = 1; size <= 4096; size += 61)
        for (size_t align = 16; align <= PAGE; align *= 2)
            for (unsigned i = 0; i < 3; i++) {
                void *block = neomm_kmalloc_aligned(g.root, size, align, 0);
                EXPECT(t, block != NULL && (uintptr_t)block % align == 0);
                EXPECT_OK(t, neomm_kfree(g.root, block));
            }
    /* Larger objects are as they always are. */
    EXPECT(t, take_guarded(&g, 4097, ANYWHERE) == NULL);
    guard_close(t, &g, 0);
}

static void contents(struct ktap *t)
{
    struct guard_box g;
    uint32_t guarded = 0;
    if (!guard_open(t, &g, 1, 1))
        return;
    for (uint32_t i = 0; i < 3 * MOST; i++) {
        uint8_t *block = take_guarded(&g, 128, ANYWHERE);
        ASSERT(t, block != NULL);
        /* What was in an object before is not in the next one. */
        for (size_t at = 0; at < 128; at++)
            EXPECT(t, block[at] != 0xc3);
        memset(block, 0xc3, 128);
        EXPECT_OK(t, neomm_kfree(g.root, block));
        uint8_t *zero = neomm_kzalloc(g.root, 77, 0);
        ASSERT(t, zero != NULL);
        guarded += is_guarded(&g, zero);
        EXPECT(t, all_zero(zero, 77));
        EXPECT_OK(t, neomm_kfree(g.root, zero));
    }
    EXPECT(t, guarded > MOST);
    guard_close(t, &g, 0);
}

static void krealloc_moves(struct ktap *t)
{
    static const size_t sizes[] = {40, 41, 300, 4096, 9000, 20, 1};
    struct guard_box g;
    uint32_t reports = 0;
    if (!guard_open(t, &g, 1, 1))
        return;
    uint8_t *block = take_guarded(&g, 33, ANYWHERE);
    ASSERT(t, block != NULL);
    pattern_fill(block, 33, 33);
    size_t size = 33;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        uintptr_t before = (uintptr_t)block;
        bool guarded = is_guarded(&g, block) && size <= PAGE;
        uint8_t *moved = neomm_krealloc(g.root, block, sizes[i], 0);
        ASSERT(t, moved != NULL);
        EXPECT(t, pattern_holds(moved, size < sizes[i] ? size : sizes[i], (uint32_t)size));
        size = sizes[i];
        pattern_fill(moved, size, (uint32_t)size);
        if (guarded) {
            neomm_heap_settle(g.root);
            EXPECT(t, faults(t, &g, guess(before), false));
            expect_report(t, &g, ++reports, NEOMM_HEAP_ACCESS_AFTER_FREE, guess(before), 0);
        }
        block = moved;
    }
    EXPECT(t, reports > 0);
    EXPECT(t, neomm_krealloc(g.root, block, 0, 0) == NULL);
    guard_close(t, &g, reports);
}

/* ---- caches of objects ---- */

struct thing {
    uint32_t magic, uses;
    uint8_t rest[92];
};

static void make_thing(void *context, void *object)
{
    struct thing *thing = object;
    ++*(uint32_t *)context;
    thing->magic = 0x7417;
    thing->uses = 0;
}

static void object_caches(struct ktap *t)
{
    struct guard_box g;
    uint32_t made = 0, guarded = 0;
    struct thing *things[2 * MOST];
    if (!guard_open(t, &g, 1, 1))
        return;
    const struct neomm_kmem_options options = {"things", sizeof(struct thing), 4, make_thing,
                                               &made};
    struct neomm_kmem *cache = neomm_kmem_create(g.root, &options);
    ASSERT(t, cache != NULL);
    EXPECT_OK(t, neomm_heap_set_profile(g.root, cache, NEOMM_HEAP_GUARDED));
    for (uint32_t i = 0; i < 2 * MOST; i++) {
        things[i] = neomm_kmem_alloc(g.root, cache, NEOMM_ZERO);
        ASSERT(t, things[i] != NULL);
        EXPECT(t, things[i]->magic == 0x7417 && things[i]->uses == 0);
        guarded += is_guarded(&g, things[i]);
    }
    EXPECT_EQ(t, guarded, MOST);
    EXPECT(t, made >= 2 * MOST);
    (void)neomm_kmem_shrink(g.root, cache);
    env_fsck(t, &g.box.env);
    for (uint32_t i = 0; i < 2 * MOST; i++)
        if (!is_guarded(&g, things[i]))
            EXPECT_OK(t, neomm_kmem_free(g.root, cache, things[i]));
    /* Guarded ones alone keep the cache alive, and are named as leaks. */
    EXPECT_EQ(t, neomm_kmem_destroy(g.root, cache), NEOMM_E_BUSY);
    EXPECT(t, strstr(sim_last_log(g.box.env.machine), "leak") != NULL);
    EXPECT(t, strstr(sim_last_log(g.box.env.machine), "things") != NULL);
    uintptr_t last = 0;
    for (uint32_t i = 0; i < 2 * MOST; i++)
        if (is_guarded(&g, things[i])) {
            last = (uintptr_t)things[i];
            EXPECT_OK(t, neomm_kmem_free(g.root, cache, things[i]));
        }
    neomm_heap_settle(g.root);
    EXPECT(t, faults(t, &g, guess(last - 1), true) || faults(t, &g, guess(last), true));
    EXPECT(t, g.findings.last.cache && strcmp(g.findings.last.cache, "things") == 0);
    EXPECT_EQ(t, g.findings.last.size, sizeof(struct thing));
    EXPECT_OK(t, neomm_kmem_destroy(g.root, cache));
    EXPECT_EQ(t, neomm_kfree(g.root, guess(last)), NEOMM_E_DOUBLE_FREE);
    EXPECT(t, g.findings.last.cache == NULL && g.findings.last.object == guess(last));
    guard_close(t, &g, 2);
}

static void in_bulk(struct ktap *t)
{
    struct guard_box g;
    void *block[20];
    uint32_t guarded = 0;
    if (!guard_open(t, &g, 30, 1))
        return;
    struct neomm_kmem *cache = neomm_kmem_for(g.root, 64);
    for (uint32_t round = 0; round < 600; round++) {
        ASSERT_OK(t, neomm_kmem_alloc_bulk(g.root, cache, NEOMM_ZERO, 20, block));
        for (uint32_t i = 0; i < 20; i++) {
            guarded += is_guarded(&g, block[i]);
            EXPECT(t, all_zero(block[i], 64));
        }
        if (round % 100 == 0)
            env_fsck(t, &g.box.env);
        EXPECT_OK(t, neomm_kmem_free_bulk(g.root, cache, 20, block));
    }
    EXPECT(t, guarded > 100);
    guard_close(t, &g, 0);
}

/* ---- what is no object ---- */

static void wild_accesses(struct ktap *t)
{
    struct guard_box g;
    if (!guard_open(t, &g, 1, 1))
        return;
    uint8_t *block = take_guarded(&g, 4096, ANYWHERE), *large = take(&g.box, 4u << 20 | 1, 0);
    ASSERT(t, block && large);
    uintptr_t far = (uintptr_t)block + 40 * PAGE;
    EXPECT(t, faults(t, &g, guess(far), false));
    expect_report(t, &g, 1, NEOMM_HEAP_ACCESS_OUTSIDE, NULL, 0);
    EXPECT(t, faults(t, &g, guess(far + PAGE), true));
    expect_report(t, &g, 2, NEOMM_HEAP_ACCESS_OUTSIDE, NULL, 0);
    EXPECT_EQ(t, neomm_kfree(g.root, guess(far)), NEOMM_E_FOREIGN);
    EXPECT(t, !neomm_heap_fault(g.root, large));
    EXPECT(t, !neomm_heap_fault(g.root, NULL));
    EXPECT(t, !neomm_heap_fault(g.root, &g));
    EXPECT_OK(t, neomm_kfree(g.root, large));
    EXPECT_OK(t, neomm_kfree(g.root, block));
    guard_close(t, &g, 3);
}

static const uint64_t formats[] = ENV_FORMATS;
static const uint64_t five[] = {0, 1, 2, 3, 4};

static const struct ktap_case cases[] = {
    KTAP_CASE_WITH(reads_and_writes_beside, formats),
    KTAP_CASE_WITH(whose_access_it_is, five),
    KTAP_CASE_WITH(use_after_free, formats),
    KTAP_CASE(freed_with_interrupts_masked),
    KTAP_CASE(pages_come_and_go),
    KTAP_CASE(late_reuse),
    KTAP_CASE(bad_frees),
    KTAP_CASE(damage_is_found_by_kfree),
    KTAP_CASE(freed_without_waiting),
    KTAP_CASE(alignment),
    KTAP_CASE(contents),
    KTAP_CASE(krealloc_moves),
    KTAP_CASE(object_caches),
    KTAP_CASE(in_bulk),
    KTAP_CASE(wild_accesses),
};

KTAP_SUITE(heap_guard, cases);
