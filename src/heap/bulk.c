/* Objects in bulk, and in advance.
 * SPDX-License-Identifier: MIT */
#include "magazine.h"

/* ---- allocation ---- */

/* What this CPU has at hand. */
static uint32_t pop_some(struct neomm *root, const struct neomm_kmem *cache, uint32_t count,
                         void **objects)
{
    struct neomm__magazine *magazine = neomm__magazine_pin(root, cache);
    uint32_t taken = 0;
    if (neomm__magazine_visit(root->heap, cache, magazine)) {
        taken = neomm__magazine_take_some(magazine, count, objects);
        neomm__magazine_part(cache, magazine);
    }
    neomm_port_unpin();
    return taken;
}

static uint32_t take_batch(struct neomm *root, struct neomm_kmem *cache, void **objects,
                           uint32_t want, neomm_flags_t flags)
{
    want = want < NEOMM__BATCH_MAX ? want : NEOMM__BATCH_MAX;
    uint32_t taken = neomm__slab_take(root, cache, NULL, objects, want, flags);
    if (taken == 0)
        taken = neomm__slab_take_new(root, cache, NULL, objects, want, flags);
    neomm__kmem_count(cache, taken, 0);
    return taken;
}

static uint32_t take_slabs(struct neomm *root, struct neomm_kmem *cache, void **objects,
                           uint32_t want, neomm_flags_t flags, uintptr_t caller)
{
    uint32_t done = 0;
    while (done < want) {
        uint32_t turns = neomm__load_acquire(&cache->turns), taken;
        const struct neomm__kmem_ops *ops = neomm__kmem_ops_of(cache);
        if (!ops)
            taken = take_batch(root, cache, objects + done, want - done, flags);
        else
            taken = (objects[done] = ops->alloc(root, cache, cache->object_size, flags, caller)) !=
                    NULL;
        if (taken == 0 && turns == neomm__load_acquire(&cache->turns))
            break;
        done += taken;
    }
    return done;
}

/* Too few were to be had: back with them, without waiting if they came so. */
static void give_back(struct neomm *root, struct neomm_kmem *cache, neomm_flags_t flags,
                      uint32_t count, void **objects)
{
    if (!(flags & NEOMM_NOLOCK))
        (void)neomm_kmem_free_bulk(root, cache, count, objects);
    else
        for (uint32_t i = 0; i < count; i++)
            (void)neomm_kfree_nolock(root, objects[i]);
}

neomm_status neomm_kmem_alloc_bulk(struct neomm *root, struct neomm_kmem *cache,
                                   neomm_flags_t flags, uint32_t count, void **objects)
{
    uint32_t done = pop_some(root, cache, count, objects);
    uintptr_t caller = NEOMM__CALLER(NULL);
    flags &= ~NEOMM_DMA;
    /* It may be time for one that is guarded. */
    if (done < count && neomm__load_relaxed(&cache->interval) > 0 &&
        (objects[done] = neomm__kmem_refill(root, cache, cache->object_size, cache->align, flags,
                                            caller)) != NULL)
        done++;
    done += take_slabs(root, cache, objects + done, count - done, flags, caller);
    if (done < count && neomm__heap_relieve(root, flags))
        done += take_slabs(root, cache, objects + done, count - done, flags, caller);
    for (uint32_t i = 0; i < done; i++)
        NEOMM__OBJECT_TAKEN(objects[i], cache->size);
    if (done < count) {
        give_back(root, cache, flags, done, objects);
        NEOMM__COUNT(root, KMALLOC_FAIL);
        return NEOMM_E_NOMEM;
    }
    for (uint32_t i = 0; (flags & NEOMM_ZERO) && !cache->construct && i < count; i++)
        memset(objects[i], 0, cache->object_size);
    return NEOMM_OK;
}

/* ---- freeing ---- */

/* Objects of the cache, to the magazine as long as it has room. Stops at one that was freed just
 * before: *twice. */
static uint32_t push_some(struct neomm *root, const struct neomm_kmem *cache, uint32_t count,
                          void *const *objects, bool *twice)
{
    struct neomm__magazine *magazine = neomm__magazine_pin(root, cache);
    uint32_t done = 0;
    if (neomm__magazine_visit(root->heap, cache, magazine)) {
        uint32_t most = magazine->slots - neomm__magazine_kept(magazine);
        most = count < most ? count : most;
        for (; done < most && neomm__magazine_push(magazine, objects[done]); done++) {
            NEOMM__OBJECT_FREED(objects[done], cache->size);
            neomm__magazine_go_round(magazine);
        }
        *twice = done < count && neomm__magazine_knows(magazine, objects[done]);
        neomm__magazine_part(cache, magazine);
    }
    neomm_port_unpin();
    return done;
}

/* The objects at the front that are the cache's, at most a batch. */
static uint32_t count_good(struct neomm *root, const struct neomm_kmem *cache, uint32_t count,
                           void *const *objects)
{
    uint32_t good = 0;
    while (good < count && good < NEOMM__BATCH_MAX &&
           neomm__kmem_under(root, objects[good]) == cache)
        good++;
    return good;
}

static neomm_status put_batch(struct neomm *root, struct neomm_kmem *cache, uint32_t count,
                              void *const *objects)
{
    struct neomm__frame_list surplus = {0, 0, 0};
    for (uint32_t i = 0; i < count; i++)
        NEOMM__OBJECT_FREED(objects[i], cache->size);
    uint32_t twice = neomm__slab_put(root, cache, objects, count, &surplus);
    neomm__kmem_count(cache, 0, count - twice);
    (void)neomm__slabs_end(root, &surplus);
    return twice == 0 ? NEOMM_OK : NEOMM_E_DOUBLE_FREE;
}

neomm_status neomm_kmem_free_bulk(struct neomm *root, struct neomm_kmem *cache, uint32_t count,
                                  void *const *objects)
{
    neomm_status first = NEOMM_OK, status;
    uintptr_t caller = NEOMM__CALLER(NULL);
    for (uint32_t i = 0; i < count;) {
        uint32_t good = count_good(root, cache, count - i, objects + i), pushed = 0;
        bool twice = false;
        if (good > 0)
            pushed = push_some(root, cache, good, objects + i, &twice);
        if (good == 0 || pushed == 0) {
            bool single = good <= 1 || twice || neomm__kmem_ops_of(cache);
            status = single ? neomm__heap_free(root, cache, objects[i], "kmem_free_bulk", caller)
                            : put_batch(root, cache, good, objects + i);
            pushed = single ? 1 : good;
            first = first == NEOMM_OK ? status : first;
        }
        i += pushed;
    }
    return first;
}

/* ---- in advance ---- */

neomm_status neomm_prefill_init(struct neomm *root, struct neomm_prefill *prefill,
                                struct neomm_kmem *cache, uint32_t count, neomm_flags_t flags)
{
    *prefill = (struct neomm_prefill){.cache = cache, .capacity = count};
    if (count > 0)
        prefill->object = neomm_kmalloc_array(root, count, sizeof(void *), flags & ~NEOMM_ZERO);
    if (count > 0 && !prefill->object)
        return NEOMM_E_NOMEM;
    neomm_status status = neomm_prefill_refill(root, prefill, flags);
    if (status != NEOMM_OK)
        neomm_prefill_end(root, prefill);
    return status;
}

void *neomm_prefill_take(struct neomm_prefill *prefill)
{
    return prefill->count > 0 ? prefill->object[--prefill->count] : NULL;
}

neomm_status neomm_prefill_refill(struct neomm *root, struct neomm_prefill *prefill,
                                  neomm_flags_t flags)
{
    uint32_t missing = prefill->capacity - prefill->count;
    if (missing == 0)
        return NEOMM_OK;
    neomm_status status = neomm_kmem_alloc_bulk(root, prefill->cache, flags, missing,
                                                prefill->object + prefill->count);
    if (status == NEOMM_OK)
        prefill->count = prefill->capacity;
    return status;
}

void neomm_prefill_end(struct neomm *root, struct neomm_prefill *prefill)
{
    (void)neomm_kmem_free_bulk(root, prefill->cache, prefill->count, prefill->object);
    (void)neomm_kfree(root, prefill->object);
    *prefill = (struct neomm_prefill){.cache = NULL};
}
