/* AddressSanitizer sees the heap's objects: what is freed cannot be touched, what is live can.
 * SPDX-License-Identifier: MIT */
#include "heap_box.h"
#include "sim/sim.h"

#include <inttypes.h>
#include <neomm/heap_debug.h>
#include <sanitizer/asan_interface.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static struct box box;

static bool open_box(struct ktap *t)
{
    if (!box_open(t, &box, BOX_DIRECT, 16, 2))
        return false;
    sim_poison_objects(box.env.machine, true);
    return true;
}

/* ---- what is reported ---- */

enum how { BY_KFREE, BY_SIZE, BY_NOLOCK, BY_CACHE, IN_BULK, BY_KREALLOC, LONG_AGO };

static void free_by(enum how how, struct neomm_kmem *cache, void *object)
{
    void *batch[40];
    switch (how) {
    case BY_SIZE:
        (void)neomm_kfree_sized(box.root, object, 100);
        break;
    case BY_NOLOCK:
        (void)neomm_kfree_nolock(box.root, object);
        break;
    case BY_CACHE:
        (void)neomm_kmem_free(box.root, cache, object);
        break;
    case IN_BULK:
        (void)neomm_kmem_free_bulk(box.root, cache, 1, &object);
        break;
    case BY_KREALLOC:
        batch[0] = neomm_krealloc(box.root, object, 1000, 0);
        break;
    case LONG_AGO: /* it is in its slab by now */
        (void)neomm_kmem_alloc_bulk(box.root, cache, 0, 40, batch);
        (void)neomm_kfree(box.root, object);
        (void)neomm_kmem_free_bulk(box.root, cache, 39, batch);
        (void)neomm_heap_shrink(box.root);
        break;
    default:
        (void)neomm_kfree(box.root, object);
    }
}

/* In a process of its own, whose standard error goes to `file`. */
static void touch_freed(struct ktap *t, enum how how, int file)
{
    if (!open_box(t))
        _exit(0);
    struct neomm_kmem *cache = neomm_kmem_for(box.root, 100);
    volatile char *object = neomm_kmalloc(box.root, 100, 0);
    (void)dup2(file, STDERR_FILENO);
    object[99] = 1;
    (void)dprintf(STDERR_FILENO, "object %p\n", (void *)(uintptr_t)object);
    free_by(how, cache, (void *)(uintptr_t)object);
    object[40] = 2;
    _exit(0);
}

static void freed_is_reported(struct ktap *t)
{
    char text[4096] = {0};
    uintptr_t object = 0, at = 0;
    int file[2], status = 0;
    size_t length = 0;
    ASSERT(t, pipe(file) == 0);
    pid_t pid = fork();
    if (pid == 0)
        touch_freed(t, (enum how)t->parameter, file[1]);
    (void)close(file[1]);
    for (ssize_t n; length < sizeof(text) - 1 &&
                    (n = read(file[0], text + length, sizeof(text) - 1 - length)) > 0;)
        length += (size_t)n;
    (void)close(file[0]);
    EXPECT(t, waitpid(pid, &status, 0) == pid);
    EXPECT(t, !WIFEXITED(status) || WEXITSTATUS(status) != 0);
    const char *report = strstr(text, "use-after-poison on address ");
    EXPECT(t, sscanf(text, "object %" SCNxPTR, &object) == 1);
    EXPECT(t, report && sscanf(report, "use-after-poison on address %" SCNxPTR, &at) == 1);
    EXPECT_EQ(t, at, object + 40);
}

/* ---- what is not ---- */

enum { SLOTS = 300 };
static struct {
    unsigned char *block;
    size_t size;
} slot[SLOTS];
static uint32_t freed, forbidden; /* blocks; and those of them that could not be touched */

static bool can_touch(const void *block, size_t size)
{
    return __asan_region_is_poisoned((void *)(uintptr_t)block, size) == NULL;
}

static uint32_t next(uint64_t *seed)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*seed >> 33);
}

static void change(struct ktap *t, uint64_t *seed, uint32_t i)
{
    size_t size = 1 + next(seed) % (next(seed) % 8 == 0 ? 20000 : 600);
    if (slot[i].block && next(seed) % 4 == 0) {
        slot[i].block = neomm_krealloc(box.root, slot[i].block, size, 0);
    } else if (slot[i].block) {
        EXPECT_OK(t, neomm_kfree(box.root, slot[i].block));
        forbidden += !can_touch(slot[i].block, slot[i].size);
        freed++;
        slot[i].block = NULL;
        return;
    } else if (next(seed) % 3 == 0) {
        slot[i].block = neomm_kmalloc_aligned(box.root, size, 64, NEOMM_ZERO);
    } else {
        slot[i].block = neomm_kmalloc(box.root, size, 0);
    }
    ASSERT(t, slot[i].block);
    slot[i].size = size;
    EXPECT(t, can_touch(slot[i].block, size));
    memset(slot[i].block, (int)i, size);
}

/* Objects that come, grow and go on two CPUs, while the heap gives memory back and changes how it
 * works. */
static void live_can_be_touched(struct ktap *t)
{
    static const enum neomm_heap_profile profiles[] = {NEOMM_HEAP_FAST, NEOMM_HEAP_HARDENED,
                                                       NEOMM_HEAP_DEFAULT};
    uint64_t seed = t->parameter;
    freed = forbidden = 0;
    if (!open_box(t))
        return;
    /* Quarantines stay for the heap's lifetime. */
    EXPECT_OK(t, neomm_heap_set_profile(box.root, NULL, NEOMM_HEAP_HARDENED));
    EXPECT_OK(t, neomm_heap_set_profile(box.root, NULL, NEOMM_HEAP_DEFAULT));
    box.free_before = neomm_pmm_free_frames(box.root);
    for (uint32_t step = 0; step < 6000; step++) {
        change(t, &seed, next(&seed) % SLOTS);
        env_switch_cpu(&box.env, next(&seed) % 2);
        if (step % 500 == 499)
            (void)neomm_heap_shrink(box.root);
        if (step % 2000 == 1999)
            EXPECT_OK(t, neomm_heap_set_profile(box.root, NULL, profiles[step / 2000]));
    }
    for (uint32_t i = 0; i < SLOTS; i++) {
        EXPECT(t, !slot[i].block || can_touch(slot[i].block, slot[i].size));
        EXPECT_OK(t, neomm_kfree(box.root, slot[i].block));
        slot[i].block = NULL;
    }
    /* All but those of the HARDENED third, runs, and the last of a slab. */
    EXPECT(t, forbidden > freed / 2);
    env_switch_cpu(&box.env, 0);
    box_close(t, &box);
}

static const uint64_t ways[] = {BY_KFREE, BY_SIZE,     BY_NOLOCK, BY_CACHE,
                                IN_BULK,  BY_KREALLOC, LONG_AGO};
static const uint64_t seeds[] = {1, 2, 3};
static const struct ktap_case cases[] = {
    KTAP_CASE_WITH(freed_is_reported, ways),
    KTAP_CASE_WITH(live_can_be_touched, seeds),
};
KTAP_SUITE(heap_asan, cases);
