/* Blocks that grow by getting more pages, in place or elsewhere, and keep those they have.
 * SPDX-License-Identifier: MIT */
#include "heap_box.h"

#define STEP    ((size_t)100000)
#define VECTORS 4u

struct vector {
    uint8_t *block;
    size_t size;
};

static neomm_paddr_t paddr_of(const struct box *box, const void *pointer)
{
    struct neomm_mapping mapping = {0};
    neomm_vaddr_t vaddr = neomm_window_vaddr(box->root, pointer);
    if (vaddr != 0)
        (void)neomm_paging_query(box->root, neomm_paging_kernel(box->root), vaddr, &mapping);
    return mapping.state == NEOMM_MAPPING_PRESENT ? mapping.paddr : 0;
}

/* False: no memory, and the vector is as it was. */
static bool grow(struct ktap *t, struct box *box, struct vector *vector, uint32_t id, size_t size)
{
    size_t before = vector->size;
    uint8_t *block = neomm_krealloc(box->root, vector->block, size, NEOMM_ZERO);
    EXPECT(t, pattern_holds(block ? block : vector->block, before, id));
    if (!block)
        return false;
    *vector = (struct vector){block, size};
    EXPECT(t, neomm_ksize(box->root, block) >= size);
    pattern_fill(block, size, id);
    return true;
}

static void release(struct ktap *t, struct box *box, struct vector *vector)
{
    if (vector->block)
        EXPECT_OK(t, neomm_kfree(box->root, vector->block));
    *vector = (struct vector){NULL, 0};
}

/* From the size on at which their pages can move, the first of them stays the same. */
static void interleaved_vectors(struct ktap *t)
{
    struct box box;
    struct vector vector[VECTORS] = {{NULL, 0}};
    if (!box_open(t, &box, BOX_WINDOW, 64, 2))
        return;
    for (size_t size = STEP; size <= 30 * STEP; size += STEP)
        for (uint32_t i = 0; i < VECTORS; i++) {
            neomm_paddr_t before = paddr_of(&box, vector[i].block);
            EXPECT(t, grow(t, &box, &vector[i], i, size));
            if (before != 0)
                EXPECT_EQ(t, paddr_of(&box, vector[i].block), before);
            EXPECT_EQ(t, before != 0, size > 2 * STEP);
        }
    env_fsck(t, &box.env);
    for (uint32_t i = 0; i < VECTORS; i++)
        release(t, &box, &vector[i]);
    box_close(t, &box);
}

/* The old address is none of the heap's any more, and alone a block stays where it is. */
static void old_addresses(struct ktap *t)
{
    struct box box;
    struct vector vector[2] = {{NULL, 0}};
    if (!box_open(t, &box, BOX_WINDOW, 32, 1))
        return;
    for (uint32_t i = 0; i < 2; i++) {
        ASSERT(t, grow(t, &box, &vector[i], i, 5000000));
    }
    uint8_t *first = vector[0].block, *second = vector[1].block;
    ASSERT(t, grow(t, &box, &vector[1], 1, 6000000));
    EXPECT(t, vector[1].block == second);
    ASSERT(t, grow(t, &box, &vector[0], 0, 6000000));
    EXPECT(t, vector[0].block != first);
    EXPECT_EQ(t, neomm_ksize(box.root, first), 0);
    EXPECT_EQ(t, neomm_kfree(box.root, first), NEOMM_E_FOREIGN);
    release(t, &box, &vector[0]);
    release(t, &box, &vector[1]);
    box_close(t, &box);
}

/* The nth allocation fails: contents and totals are as before, or as asked for. */
static uint64_t fail(struct ktap *t, struct box *box, uint64_t n, bool forever)
{
    struct vector vector[2] = {{NULL, 0}};
    if (!env_fault_plan(&box->env, n, forever))
        return 0;
    for (size_t size = STEP; size <= 4 * STEP; size += STEP)
        for (uint32_t i = 0; i < 2; i++)
            (void)grow(t, box, &vector[i], i, size);
    uint64_t passes = env_fault_count(&box->env);
    (void)env_fault_plan(&box->env, 0, false);
    env_fsck(t, &box->env);
    for (uint32_t i = 0; i < 2; i++)
        release(t, box, &vector[i]);
    (void)neomm_heap_shrink(box->root);
    EXPECT_EQ(t, neomm_pmm_free_frames(box->root), box->free_before);
    return passes;
}

static void every_failure(struct ktap *t)
{
    struct box box;
    if (!box_open(t, &box, BOX_WINDOW, 16, 1))
        return;
    uint64_t passes = fail(t, &box, 1, t->parameter);
    for (uint64_t n = 2; n <= passes && t->failures == 0; n += n < 60 ? 1 : 17)
        passes = fail(t, &box, n, t->parameter);
    if (passes == 0)
        ktap_skip(t, "no fault points in this flavour");
    box_close(t, &box);
}

static const uint64_t forever[] = {false, true};

static const struct ktap_case cases[] = {
    KTAP_CASE(interleaved_vectors),
    KTAP_CASE(old_addresses),
    KTAP_CASE_WITH(every_failure, forever),
};
KTAP_SUITE(heap_move, cases);
