/* Pagers and the page cache: what is read, written back, shared, copied and cut off.
 * SPDX-License-Identifier: MIT */
#include "pager_desk.h"

#include "vmm/cache.h"

static const uint64_t formats[] = ENV_FORMATS;

static enum neomm_fault_outcome fault(struct desk *d, neomm_vaddr_t at, bool write)
{
    struct neomm_fault_result result;
    return neomm_fault(d->root, d->space, at, NEOMM_PF_USER | (write ? NEOMM_PF_WRITE : 0),
                       &result);
}

/* ---- shared mappings ---- */

static void shared_mappings(struct ktap *t)
{
    static struct desk d;
    ASSERT(t, desk_open(t, &d, 5 * PAGE + 100));
    map(&d, d.space, d.at, 6, 0);
    map(&d, d.other, d.at + 64 * PAGE, 6, 0);
    for (uint32_t i = 0; i < 6; i++)
        expect_byte(&d, d.space, d.at + i * PAGE + 99, file_byte(i * PAGE + 99));
    expect_byte(&d, d.space, d.at + 5 * PAGE + 100, 0);
    expect_byte(&d, d.space, d.at + 6 * PAGE - 1, 0);
    EXPECT_EQ(t, d.file.reads, 6);
    EXPECT_EQ(t, stats_of(&d).dirty, 0);
    store(&d, d.space, d.at + 2 * PAGE, 77);
    store(&d, d.other, d.at + 69 * PAGE + 99, 78);
    store(&d, d.other, d.at + 69 * PAGE + 100, 79);
    expect_byte(&d, d.other, d.at + 66 * PAGE, 77);
    EXPECT_EQ(t, stats_of(&d).dirty, 2);
    EXPECT_EQ(t, file_page(&d.file, 2)[0], file_byte(2 * PAGE));
    EXPECT_OK(t, neomm_msync(d.root, d.space, d.at, 6 * PAGE, NEOMM_MS_SYNC));
    EXPECT_EQ(t, d.file.writes, 2);
    EXPECT_EQ(t, d.file.most, 2);
    EXPECT(t, d.file.flushes == 1 && stats_of(&d).dirty == 0);
    EXPECT_EQ(t, d.file.safe[2 * PAGE], 77);
    EXPECT_EQ(t, d.file.safe[5 * PAGE + 99], 78);
    EXPECT_EQ(t, d.file.safe[5 * PAGE + 100], 0);
    EXPECT_OK(t, neomm_msync(d.root, d.space, d.at, 6 * PAGE, NEOMM_MS_SYNC));
    EXPECT_EQ(t, d.file.writes, 2);
    store(&d, d.space, d.at + 2 * PAGE, 80);
    EXPECT_EQ(t, stats_of(&d).dirty, 1);
    desk_close(&d);
    EXPECT_EQ(t, d.file.safe[2 * PAGE], 80);
    EXPECT_OK(t, d.file.release_status);
}

/* ---- private mappings ---- */

static void private_mappings(struct ktap *t)
{
    static struct desk d;
    ASSERT(t, desk_open(t, &d, 4 * PAGE));
    neomm_vaddr_t shared = d.at + 64 * PAGE;
    map(&d, d.space, d.at, 4, NEOMM_MAP_PRIVATE);
    map(&d, d.space, shared, 4, 0);
    expect_byte(&d, d.space, d.at, file_byte(0));
    store(&d, d.space, shared, 50);
    expect_byte(&d, d.space, d.at, 50);
    store(&d, d.space, d.at + 1, 51);
    store(&d, d.space, d.at + PAGE, 52); /* not read before */
    expect_byte(&d, d.space, shared + 1, file_byte(1));
    store(&d, d.space, shared, 53);
    expect_byte(&d, d.space, d.at, 50);
    expect_byte(&d, d.space, shared + PAGE, file_byte(PAGE));
    struct neomm_space *child;
    EXPECT_OK(t, neomm_space_fork(d.root, d.space, &child));
    store(&d, child, d.at + PAGE, 54);
    store(&d, child, d.at + 2 * PAGE, 55);
    store(&d, d.space, shared + 3 * PAGE, 56);
    expect_byte(&d, child, d.at, 50);
    expect_byte(&d, child, d.at + 3 * PAGE, 56);
    expect_byte(&d, d.space, d.at + PAGE, 52);
    expect_byte(&d, d.space, d.at + 2 * PAGE, file_byte(2 * PAGE));
    env_fsck(t, &d.env);
    /* What was written to is anonymous memory and goes to swap; the rest does not. */
    (void)neomm__reclaim(d.root, 100);
    EXPECT_EQ(t, stats_of(&d).pages, 0);
    EXPECT_EQ(t, swap_used(&d), 4);
    expect_byte(&d, d.space, d.at, 50);
    expect_byte(&d, d.space, d.at + PAGE, 52);
    expect_byte(&d, child, d.at + 2 * PAGE, 55);
    expect_byte(&d, child, d.at + 3 * PAGE, 56);
    EXPECT_OK(t, neomm_madvise(d.root, d.space, d.at, 4 * PAGE, NEOMM_ADVICE_DONTNEED));
    expect_byte(&d, d.space, d.at, 53);
    neomm_space_activate(d.root, NULL);
    EXPECT_OK(t, neomm_space_destroy(d.root, child));
    desk_close(&d);
    EXPECT(t, d.file.safe[0] == 53 && d.file.safe[PAGE] == file_byte(PAGE));
}

/* The same of shared memory without a pager. */
static void private_mappings_of_memory(struct ktap *t)
{
    static struct desk d;
    struct neomm_object *memory;
    struct neomm_space *child;
    ASSERT(t, desk_open(t, &d, PAGE));
    neomm_vaddr_t shared = d.at + 64 * PAGE, own = d.at;
    EXPECT_OK(t, neomm_object_create(d.root, NULL, 3 * PAGE, &memory));
    EXPECT_OK(
        t, neomm_mmap_object(d.root, d.space, &shared, 3 * PAGE, RW, NEOMM_MAP_FIXED, memory, 0));
    EXPECT_OK(t, neomm_mmap_object(d.root, d.space, &own, 3 * PAGE, RW,
                                   NEOMM_MAP_FIXED | NEOMM_MAP_PRIVATE, memory, 0));
    store(&d, d.space, shared, 1);
    expect_byte(&d, d.space, own, 1);
    store(&d, d.space, own, 2);
    store(&d, d.space, own + PAGE, 3);
    expect_byte(&d, d.space, shared, 1);
    expect_byte(&d, d.space, shared + PAGE, 0);
    EXPECT_OK(t, neomm_space_fork(d.root, d.space, &child));
    store(&d, child, own, 4);
    store(&d, child, shared + 2 * PAGE, 5);
    (void)neomm__reclaim(d.root, 100);
    expect_byte(&d, d.space, own, 2);
    expect_byte(&d, d.space, own + 2 * PAGE, 5);
    expect_byte(&d, child, own, 4);
    expect_byte(&d, child, own + PAGE, 3);
    expect_byte(&d, child, shared, 1);
    EXPECT_OK(t, neomm_object_resize(d.root, memory, 0));
    expect_byte(&d, d.space, own, 2);
    EXPECT_EQ(t, fault(&d, own + 2 * PAGE, false), NEOMM_FAULT_BUS);
    neomm_space_activate(d.root, NULL);
    EXPECT_OK(t, neomm_space_destroy(d.root, child));
    EXPECT_EQ(t, neomm_object_sync(d.root, memory, 0, PAGE), NEOMM_OK);
    EXPECT_EQ(t, neomm_object_read(d.root, memory, 0, &child, 1, NULL), NEOMM_E_UNSUPPORTED);
    neomm_object_close(d.root, memory);
    desk_close(&d);
}

/* A pinned page of the cache is not the fork's to give back for writing; and a pin of a private
 * mapping is a page of its own. */
static void pins(struct ktap *t)
{
    static struct desk d;
    struct neomm_space *child;
    neomm_frame_t shared, own;
    uint32_t done;
    ASSERT(t, desk_open(t, &d, 2 * PAGE));
    neomm_vaddr_t at = d.at + 64 * PAGE;
    map(&d, d.space, d.at, 2, NEOMM_MAP_PRIVATE);
    map(&d, d.space, at, 2, 0);
    expect_byte(&d, d.space, d.at, file_byte(0));
    EXPECT_OK(t, neomm_user_pin(d.root, d.space, at, 1, true, &shared, &done));
    EXPECT_OK(t, neomm_user_pin(d.root, d.space, d.at + PAGE, 1, false, &own, &done));
    EXPECT_OK(t, neomm_space_fork(d.root, d.space, &child));
    env_fsck(t, &d.env);
    store(&d, d.space, d.at, 9);
    expect_byte(&d, d.space, at, file_byte(0));
    store(&d, d.space, at + PAGE, 10);
    expect_byte(&d, d.space, d.at + PAGE, file_byte(PAGE));
    /* What the device writes to a pinned page is written back, whenever that is. */
    d.file.unstable = true;
    EXPECT_OK(t, neomm_object_sync(d.root, d.object, 0, UINT64_MAX));
    EXPECT_EQ(t, stats_of(&d).dirty, 1);
    const uint8_t byte = 11;
    (void)sim_physical_write(d.env.machine, neomm_frame_paddr(shared) + 5, &byte, 1);
    EXPECT_EQ(t, neomm_cache_shrink(d.root, 10), 1);
    neomm_user_unpin(d.root, &shared, 1, true);
    neomm_user_unpin(d.root, &own, 1, false);
    EXPECT_OK(t, neomm_object_sync(d.root, d.object, 0, UINT64_MAX));
    EXPECT(t, d.file.safe[5] == 11 && stats_of(&d).dirty == 0);
    neomm_space_activate(d.root, NULL);
    EXPECT_OK(t, neomm_space_destroy(d.root, child));
    desk_close(&d);
}

/* ---- reading ahead and around ---- */

static void ahead_in_order(struct ktap *t)
{
    static struct desk d;
    ASSERT(t, desk_open(t, &d, 200 * PAGE));
    map(&d, d.space, d.at, 200, 0);
    expect_byte(&d, d.space, d.at, file_byte(0));
    EXPECT_EQ(t, d.file.reads, 5); /* this one and a window of 4 */
    expect_byte(&d, d.space, d.at + PAGE, file_byte(PAGE));
    EXPECT_EQ(t, d.file.reads, 13); /* its mark: 8 more */
    read_in_order(&d, 200);
    struct neomm_cache_stats stats = stats_of(&d);
    EXPECT_EQ(t, d.file.reads, 200);
    EXPECT_EQ(t, stats.reads, 200);
    EXPECT_EQ(t, stats.ahead, 199); /* nothing but the first was waited for by itself */
    /* Windows of 4, 8, 16 and 32 begin at 1, 5, 13, 29, 61, 93, 125, 157, 189. */
    EXPECT_EQ(t, stats.ahead_hits, 9);
    EXPECT(t, stats.around > 100);
    desk_close(&d);
}

/* Here and there: page by page. What is said of the region goes before. */
static void ahead_by_advice(struct ktap *t)
{
    static struct desk d;
    ASSERT(t, desk_open(t, &d, 200 * PAGE));
    map(&d, d.space, d.at, 200, 0);
    for (uint32_t i = 1; i < 6; i++)
        expect_byte(&d, d.space, d.at + i * 7 * PAGE, file_byte(i * 7 * PAGE));
    EXPECT_EQ(t, d.file.reads, 5);
    EXPECT_OK(t, neomm_madvise(d.root, d.space, d.at, 200 * PAGE, NEOMM_ADVICE_RANDOM));
    expect_byte(&d, d.space, d.at, file_byte(0));
    expect_byte(&d, d.space, d.at + PAGE, file_byte(PAGE));
    expect_byte(&d, d.space, d.at + 2 * PAGE, file_byte(2 * PAGE));
    EXPECT_EQ(t, d.file.reads, 8);
    EXPECT_EQ(t, stats_of(&d).around, 0);
    EXPECT_OK(t, neomm_madvise(d.root, d.space, d.at, 200 * PAGE, NEOMM_ADVICE_SEQUENTIAL));
    expect_byte(&d, d.space, d.at + 100 * PAGE, file_byte(100 * PAGE));
    EXPECT_EQ(t, d.file.reads, 9 + NEOMM_AHEAD_SEQUENTIAL);
    EXPECT_OK(t,
              neomm_madvise(d.root, d.space, d.at + 170 * PAGE, 30 * PAGE, NEOMM_ADVICE_WILLNEED));
    EXPECT_EQ(t, d.file.reads, 39 + NEOMM_AHEAD_SEQUENTIAL);
    uint32_t reads = d.file.reads;
    for (uint32_t i = 170; i < 200; i++)
        expect_byte(&d, d.space, d.at + i * PAGE, file_byte(i * PAGE));
    EXPECT_EQ(t, d.file.reads, reads);
    desk_close(&d);
}

/* One fault maps the neighbours that are there, once, and not beyond the mapping or to write. */
static void around_a_fault(struct ktap *t)
{
    static struct desk d;
    uint8_t in[40];
    ASSERT(t, desk_open(t, &d, 64 * PAGE));
    neomm_vaddr_t at = d.at;
    EXPECT_OK(t, neomm_mmap_object(d.root, d.space, &at, 30 * PAGE, RW, NEOMM_MAP_FIXED, d.object,
                                   4 * PAGE));
    neomm__cache_read_ahead(d.root, d.object, 0, 64);
    EXPECT_EQ(t, fault(&d, at, true), NEOMM_FAULT_RESOLVED);
    EXPECT_EQ(t, stats_of(&d).around, 0);
    EXPECT_EQ(t, fault(&d, at + 2 * PAGE, false), NEOMM_FAULT_RESOLVED);
    EXPECT_EQ(t, stats_of(&d).around, 10); /* pages 5 to 15 but for 6 */
    EXPECT_EQ(t, fault(&d, at + 29 * PAGE, false), NEOMM_FAULT_RESOLVED);
    EXPECT_EQ(t, stats_of(&d).around, 11); /* pages 32 to 33 */
    EXPECT_OK(t, neomm_mincore(d.root, d.space, at, 30 * PAGE, in));
    for (uint32_t i = 0; i < 30; i++)
        EXPECT_EQ(t, in[i], i < 12 || i >= 28);
    EXPECT_EQ(t, stats_of(&d).dirty, 1);
    desk_close(&d);
}

/* ---- errors ---- */

static void reading_fails(struct ktap *t)
{
    static struct desk d;
    ASSERT(t, desk_open(t, &d, 64 * PAGE));
    map(&d, d.space, d.at, 64, 0);
    sim_disk_fault(d.file.disk, SIM_DISK_FAIL, 1, false);
    EXPECT_EQ(t, fault(&d, d.at + 9 * PAGE, false), NEOMM_FAULT_BUS);
    EXPECT(t, stats_of(&d).pages == 0 && stats_of(&d).read_errors == 1);
    expect_byte(&d, d.space, d.at + 9 * PAGE, file_byte(9 * PAGE));
    /* What fails ahead is nobody's error, until somebody wants it. */
    sim_disk_fault(d.file.disk, SIM_DISK_FAIL, 1, true);
    neomm__cache_read_ahead(d.root, d.object, 20, 8);
    EXPECT_EQ(t, fault(&d, d.at + 20 * PAGE, true), NEOMM_FAULT_BUS);
    sim_disk_fault(d.file.disk, SIM_DISK_FAIL, 0, false);
    for (uint32_t i = 20; i < 28; i++)
        expect_byte(&d, d.space, d.at + i * PAGE, file_byte(i * PAGE));
    desk_close(&d);
}

static void writing_fails(struct ktap *t)
{
    static struct desk d;
    ASSERT(t, desk_open(t, &d, 8 * PAGE));
    map(&d, d.space, d.at, 8, 0);
    for (uint32_t i = 0; i < 8; i++)
        store(&d, d.space, d.at + i * PAGE, (uint8_t)(100 + i));
    sim_disk_fault(d.file.disk, SIM_DISK_FAIL, 1, true);
    EXPECT_EQ(t, neomm_msync(d.root, d.space, d.at, 8 * PAGE, NEOMM_MS_SYNC), NEOMM_E_IO);
    EXPECT(t, stats_of(&d).dirty == 8 && stats_of(&d).write_errors == 8);
    EXPECT_EQ(t, neomm_cache_shrink(d.root, 8), 0);
    EXPECT_OK(t, neomm_msync(d.root, d.space, d.at, 8 * PAGE, NEOMM_MS_ASYNC));
    EXPECT_EQ(t, neomm_object_sync(d.root, d.object, 0, UINT64_MAX), NEOMM_E_IO);
    EXPECT_EQ(t, stats_of(&d).dirty, 8);
    sim_disk_fault(d.file.disk, SIM_DISK_FAIL, 0, false);
    for (uint32_t i = 0; i < 8; i++)
        expect_byte(&d, d.space, d.at + i * PAGE, (uint8_t)(100 + i));
    EXPECT_OK(t, neomm_object_sync(d.root, d.object, 3 * PAGE + 5, 2 * PAGE));
    for (uint32_t i = 0; i < 8; i++)
        EXPECT_EQ(t, d.file.safe[i * PAGE] == 100 + i, i >= 3 && i <= 5);
    EXPECT_EQ(t, stats_of(&d).dirty, 5);
    EXPECT_OK(t, neomm_msync(d.root, d.space, d.at, 8 * PAGE, NEOMM_MS_SYNC));
    EXPECT_EQ(t, stats_of(&d).dirty, 0);
    store(&d, d.space, d.at, 1);
    sim_disk_fault(d.file.disk, SIM_DISK_FAIL, 1, true);
    desk_close(&d);
    EXPECT_EQ(t, d.file.release_status, NEOMM_E_IO);
}

/* A file system without room says nothing about swap, and clean pages go though dirty ones that
 * cannot are before them. */
static void full_file_systems(struct ktap *t)
{
    static struct desk d;
    ASSERT(t, desk_open(t, &d, 200 * PAGE));
    neomm_vaddr_t own = d.at + 256 * PAGE;
    map(&d, d.space, d.at, 200, 0);
    EXPECT_OK(t, neomm_mmap(d.root, d.space, &own, 8 * PAGE, RW, NEOMM_MAP_EXACT));
    for (uint32_t i = 0; i < 160; i++)
        store(&d, d.space, d.at + i * PAGE, 90);
    for (uint32_t i = 160; i < 200; i++)
        expect_byte(&d, d.space, d.at + i * PAGE, file_byte(i * PAGE));
    for (uint32_t i = 0; i < 8; i++)
        store(&d, d.space, own + i * PAGE, (uint8_t)i);
    d.file.write_status = NEOMM_E_NOSPACE;
    EXPECT(t, neomm__reclaim(d.root, 1000) >= 48);
    EXPECT(t, stats_of(&d).pages == 160 && stats_of(&d).dirty == 160);
    EXPECT_EQ(t, swap_used(&d), 8);
    d.file.write_status = NEOMM_OK;
    for (uint32_t i = 0; i < 8; i++)
        expect_byte(&d, d.space, own + i * PAGE, (uint8_t)i);
    desk_close(&d);
    EXPECT_EQ(t, d.file.release_status, NEOMM_OK);
}

/* ---- pages on their way ---- */

static void on_its_way(struct ktap *t)
{
    static struct desk d;
    ASSERT(t, desk_open(t, &d, 16 * PAGE));
    map(&d, d.space, d.at, 16, 0);
    d.file.hold = true;
    neomm__cache_read_ahead(d.root, d.object, 0, 16);
    EXPECT(t, d.file.holding == 16 && stats_of(&d).pages == 0);
    EXPECT_EQ(t, neomm_cache_shrink(d.root, 16), 0);
    env_fsck(t, &d.env);
    file_let_go(&d.file);
    expect_byte(&d, d.space, d.at + 3 * PAGE, file_byte(3 * PAGE));
    EXPECT_EQ(t, d.file.reads, 16);
    for (uint32_t i = 0; i < 16; i++)
        store(&d, d.space, d.at + i * PAGE, 40);
    d.file.hold = true;
    EXPECT_EQ(t, neomm_cache_write_back(d.root, 5), 5);
    EXPECT_OK(t, neomm_msync(d.root, d.space, d.at, 16 * PAGE, NEOMM_MS_ASYNC));
    EXPECT(t, d.file.holding == 16 && stats_of(&d).dirty == 0);
    expect_byte(&d, d.space, d.at, 40); /* reading waits for nobody */
    EXPECT_EQ(t, neomm_cache_shrink(d.root, 16), 0);
    env_fsck(t, &d.env);
    file_let_go(&d.file);
    store(&d, d.space, d.at + 9 * PAGE, 41); /* which waits, and makes it dirty again */
    EXPECT_EQ(t, stats_of(&d).dirty, 1);
    EXPECT_EQ(t, file_page(&d.file, 9)[0], 40);
    EXPECT_OK(t, neomm_msync(d.root, d.space, d.at, 16 * PAGE, NEOMM_MS_SYNC));
    EXPECT(t, d.file.writes == 17 && d.file.safe[9 * PAGE] == 41);
    desk_close(&d);
}

/* Who waits for a page that had to go waits for memory; who waits for a new one does not. */
static void coming_again_is_a_stall(struct ktap *t)
{
    static struct desk d;
    struct neomm_pressure before, now;
    ASSERT(t, desk_open(t, &d, 16 * PAGE));
    map(&d, d.space, d.at, 16, 0);
    read_in_order(&d, 16);
    neomm_pressure_get(d.root, &before);
    EXPECT_EQ(t, before.some.total, 0);
    EXPECT_EQ(t, neomm_cache_shrink(d.root, 4), 4);
    read_in_order(&d, 16);
    neomm_pressure_get(d.root, &now);
    EXPECT(t, stats_of(&d).refaults > 0 && now.some.total > 0 && now.stalled == 0);
    desk_close(&d);
}

/* All that could go is being written by others: who needs memory waits for that. */
static void what_is_written_is_waited_for(struct ktap *t)
{
    static struct desk d;
    ASSERT(t, desk_open(t, &d, 32 * PAGE));
    map(&d, d.space, d.at, 32, 0);
    for (uint32_t i = 0; i < 32; i++)
        store(&d, d.space, d.at + i * PAGE, 50);
    EXPECT_EQ(t, neomm_cache_write_back(d.root, 32), 32);
    EXPECT(t, (d.object->io & 0xffff) != 0 && !d.object->ended);
    EXPECT(t, neomm__reclaim(d.root, 4) >= 4);
    EXPECT(t, d.file.writes == 32 && stats_of(&d).dirty == 0);
    for (uint32_t i = 0; i < 32; i++)
        expect_byte(&d, d.space, d.at + i * PAGE, 50);
    desk_close(&d);
}

static void too_many_dirty_pages(struct ktap *t)
{
    static struct desk d;
    ASSERT(t, desk_open(t, &d, 100 * PAGE));
    map(&d, d.space, d.at, 100, 0);
    neomm_cache_set_dirty_limit(d.root, 10);
    for (uint32_t i = 0; i < 100; i++) {
        store(&d, d.space, d.at + i * PAGE, 30);
        EXPECT(t, stats_of(&d).dirty <= 11);
    }
    EXPECT(t, d.file.writes >= 80);
    EXPECT(t, d.file.most >= 8);
    EXPECT_EQ(t, stats_of(&d).dirty_limit, 10);
    desk_close(&d);
}

/* ---- size ---- */

static void cutting_off(struct ktap *t)
{
    static struct desk d;
    ASSERT(t, desk_open(t, &d, 10 * PAGE));
    map(&d, d.space, d.at, 12, 0);
    map(&d, d.other, d.at, 12, NEOMM_MAP_PRIVATE);
    for (uint32_t i = 0; i < 10; i++)
        store(&d, d.space, d.at + i * PAGE + 20, 70);
    store(&d, d.other, d.at + 8 * PAGE, 71);
    EXPECT_EQ(t, fault(&d, d.at + 10 * PAGE, false), NEOMM_FAULT_BUS);
    EXPECT_OK(t, neomm_object_resize(d.root, d.object, 4 * PAGE + 10));
    EXPECT_EQ(t, neomm_object_size(d.object), 4 * PAGE + 10);
    EXPECT(t, d.file.bytes == 4 * PAGE + 10 && stats_of(&d).dirty == 5);
    EXPECT_EQ(t, fault(&d, d.at + 5 * PAGE, true), NEOMM_FAULT_BUS);
    expect_byte(&d, d.other, d.at + 8 * PAGE, 71); /* a copy of its own */
    expect_byte(&d, d.space, d.at + 4 * PAGE + 20, 0);
    store(&d, d.space, d.at + 4 * PAGE + 30, 72); /* behind the end */
    EXPECT_OK(t, neomm_object_sync(d.root, d.object, 0, UINT64_MAX));
    EXPECT_EQ(t, d.file.safe[4 * PAGE + 30], 0);
    EXPECT_OK(t, neomm_object_resize(d.root, d.object, 12 * PAGE));
    expect_byte(&d, d.space, d.at + 4 * PAGE + 9, file_byte(4 * PAGE + 9));
    expect_byte(&d, d.space, d.at + 4 * PAGE + 30, 0);
    for (uint32_t i = 5; i < 12; i++)
        expect_byte(&d, d.space, d.at + i * PAGE + 20, 0);
    d.file.resize_status = NEOMM_E_NOSPACE;
    EXPECT_EQ(t, neomm_object_resize(d.root, d.object, 13 * PAGE), NEOMM_E_NOSPACE);
    EXPECT_EQ(t, neomm_object_size(d.object), 12 * PAGE);
    EXPECT_EQ(t, neomm_object_resize(d.root, d.object, UINT64_MAX), NEOMM_E_RANGE);
    desk_close(&d);
}

/* ---- reading and writing by the kernel ---- */

static void reading_and_writing(struct ktap *t)
{
    static struct desk d;
    static uint8_t buffer[6 * NEOMM_PAGE_SIZE];
    size_t done;
    ASSERT(t, desk_open(t, &d, 5 * PAGE + 7));
    map(&d, d.space, d.at, 6, 0);
    EXPECT_OK(t, neomm_object_read(d.root, d.object, 100, buffer, 3 * PAGE, &done));
    EXPECT_EQ(t, done, 3 * PAGE);
    for (uint32_t i = 0; i < 3 * PAGE; i++)
        EXPECT_EQ(t, buffer[i], file_byte(100 + i));
    EXPECT_OK(t, neomm_object_read(d.root, d.object, 5 * PAGE, buffer, PAGE, &done));
    EXPECT_EQ(t, done, 7);
    EXPECT_OK(t, neomm_object_read(d.root, d.object, 6 * PAGE, buffer, PAGE, &done));
    EXPECT_EQ(t, done, 0);
    EXPECT_OK(t, neomm_object_read(d.root, d.object, UINT64_MAX, buffer, PAGE, &done));
    EXPECT_EQ(t, done, 0);
    (void)neomm_cache_shrink(d.root, 100);
    uint32_t reads = d.file.reads;
    memset(buffer, 33, sizeof(buffer));
    EXPECT_OK(t, neomm_object_write(d.root, d.object, PAGE, buffer, 6 * PAGE, &done));
    EXPECT_EQ(t, done, 4 * PAGE + 7);
    EXPECT_EQ(t, d.file.reads, reads); /* all of each page was written */
    expect_byte(&d, d.space, d.at + PAGE, 33);
    expect_byte(&d, d.space, d.at + 5 * PAGE + 6, 33);
    expect_byte(&d, d.space, d.at + 5 * PAGE + 7, 0);
    EXPECT_OK(t, neomm_object_write(d.root, d.object, 3, buffer, 2, NULL));
    EXPECT_EQ(t, d.file.reads, reads + 1 + 0);
    expect_byte(&d, d.space, d.at + 2, file_byte(2));
    expect_byte(&d, d.space, d.at + 4, 33);
    store(&d, d.space, d.at + 5, 34);
    EXPECT_OK(t, neomm_object_read(d.root, d.object, 5, buffer, 1, NULL));
    EXPECT_EQ(t, buffer[0], 34);
    sim_disk_fault(d.file.disk, SIM_DISK_FAIL, 1, true);
    EXPECT_OK(t, neomm_object_resize(d.root, d.object, 8 * PAGE));
    EXPECT_EQ(t, neomm_object_read(d.root, d.object, 5 * PAGE, buffer, 3 * PAGE, &done),
              NEOMM_E_IO);
    EXPECT_EQ(t, done, PAGE);
    sim_disk_fault(d.file.disk, SIM_DISK_FAIL, 0, false);
    desk_close(&d);
    EXPECT(t, d.file.safe[5] == 34 && d.file.safe[4 * PAGE] == 33);
}

static void wrong_calls(struct ktap *t)
{
    static struct desk d;
    struct neomm_pager none = {.name = "none"};
    struct neomm_object *object;
    ASSERT(t, desk_open(t, &d, PAGE));
    neomm_vaddr_t at = d.at;
    EXPECT_EQ(t, neomm_object_create_paged(d.root, &none, NULL, 1, &object), NEOMM_E_INVALID);
    EXPECT_EQ(t, neomm_object_create_paged(d.root, NULL, NULL, 1, &object), NEOMM_E_INVALID);
    EXPECT_EQ(t, neomm_object_create_paged(d.root, &d.file.pager, NULL, UINT64_MAX, &object),
              NEOMM_E_RANGE);
    EXPECT_EQ(t, neomm_mmap(d.root, d.space, &at, PAGE, RW, NEOMM_MAP_PRIVATE), NEOMM_E_INVALID);
    EXPECT_OK(t, neomm_object_sync(d.root, d.object, 9 * PAGE, UINT64_MAX));
    EXPECT_OK(t, neomm_object_sync(d.root, d.object, 0, 0));
    desk_close(&d);
}

/* ---- every failure ---- */

static neomm_status scenario(struct desk *d, struct neomm_space **child)
{
    uint8_t buffer[64] = {7}, byte = 8;
    neomm_vaddr_t at = d->at, own = d->at + 64 * PAGE;
    neomm_status status =
        neomm_mmap_object(d->root, d->space, &at, 20 * PAGE, RW, NEOMM_MAP_FIXED, d->object, 0);
    if (status == NEOMM_OK)
        status = neomm_mmap_object(d->root, d->space, &own, 20 * PAGE, RW,
                                   NEOMM_MAP_FIXED | NEOMM_MAP_PRIVATE, d->object, 0);
    for (uint32_t i = 0; i < 10 && status == NEOMM_OK; i++)
        status = touch(d, d->space, at + i * PAGE, &byte, i % 2);
    if (status == NEOMM_OK)
        status = touch(d, d->space, own + PAGE, &byte, true);
    if (status == NEOMM_OK)
        status = neomm_object_write(d->root, d->object, 15 * PAGE - 20, buffer, 64, NULL);
    if (status == NEOMM_OK)
        status = neomm_msync(d->root, d->space, at, 20 * PAGE, NEOMM_MS_SYNC);
    if (status == NEOMM_OK)
        status = touch(d, d->space, at, &byte, true);
    if (status == NEOMM_OK)
        status = neomm_space_fork(d->root, d->space, child);
    (void)neomm_cache_shrink(d->root, 6);
    if (status == NEOMM_OK)
        status = neomm_object_resize(d->root, d->object, 9 * PAGE + 5);
    if (status == NEOMM_OK)
        status = touch(d, d->space, own + 9 * PAGE, &byte, true);
    return status == NEOMM_OK ? neomm_object_sync(d->root, d->object, 0, UINT64_MAX) : status;
}

static void every_failure(struct ktap *t)
{
    uint64_t n = 1, last = 0;
    for (bool reached = true; reached && n < 600 && t->failures == 0; n++) {
        static struct desk d;
        struct neomm_space *child = NULL;
        const struct env_options options = {.layer = ENV_VMM,
                                            .format = (enum neomm_format)formats[t->parameter & 1],
                                            .swap_pages = 64};
        ASSERT(t, desk_open_with(t, &d, 20 * PAGE, &options));
        bool active = env_fault_plan(&d.env, n, t->parameter & 0x10);
        neomm_status status = scenario(&d, &child);
        reached = active && env_fault_count(&d.env) >= n;
        (void)env_fault_plan(&d.env, 0, false);
        if (!reached)
            EXPECT_OK(t, status);
        last = reached ? n : last;
        env_fsck(t, &d.env);
        neomm_space_activate(d.root, NULL);
        if (child)
            EXPECT_OK(t, neomm_space_destroy(d.root, child));
        child = NULL;
        EXPECT_OK(t, scenario(&d, &child));
        neomm_space_activate(d.root, NULL);
        if (child)
            EXPECT_OK(t, neomm_space_destroy(d.root, child));
        desk_close(&d);
        EXPECT_OK(t, d.file.release_status);
    }
    EXPECT(t, last > 60 || !NEOMM_INSTRUMENTED);
}

static const uint64_t sweeps[] = {0x00, 0x01, 0x10, 0x11};

static const struct ktap_case cases[] = {
    KTAP_CASE_WITH(shared_mappings, formats),
    KTAP_CASE_WITH(private_mappings, formats),
    KTAP_CASE_WITH(private_mappings_of_memory, formats),
    KTAP_CASE_WITH(pins, formats),
    KTAP_CASE_WITH(ahead_in_order, formats),
    KTAP_CASE_WITH(ahead_by_advice, formats),
    KTAP_CASE_WITH(around_a_fault, formats),
    KTAP_CASE_WITH(reading_fails, formats),
    KTAP_CASE_WITH(writing_fails, formats),
    KTAP_CASE_WITH(full_file_systems, formats),
    KTAP_CASE_WITH(on_its_way, formats),
    KTAP_CASE_WITH(coming_again_is_a_stall, formats),
    KTAP_CASE_WITH(what_is_written_is_waited_for, formats),
    KTAP_CASE_WITH(too_many_dirty_pages, formats),
    KTAP_CASE_WITH(cutting_off, formats),
    KTAP_CASE_WITH(reading_and_writing, formats),
    KTAP_CASE_WITH(wrong_calls, formats),
    KTAP_CASE_WITH(every_failure, sweeps),
};
KTAP_SUITE(pager, cases);
