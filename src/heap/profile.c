/* The profile of a cache, chosen while it is in use.
 * SPDX-License-Identifier: MIT */
#include "profile.h"

#include "ledger.h"

static const struct neomm__kmem_ops *ops_for(enum neomm_heap_profile profile, bool tracked)
{
    if (profile == NEOMM_HEAP_HARDENED)
        return &neomm__hardened_ops;
    return tracked ? &neomm__tracked_ops : NULL;
}

/* Whether or not objects come and go another way, the magazines count anew to the next object that
 * is guarded, if that is at another interval than `interval`. */
static neomm_status change(struct neomm *root, struct neomm_kmem *cache,
                           const struct neomm__kmem_ops *ops, uint32_t interval)
{
    uint32_t objects = 0, frames = 0;
    if (ops != cache->ops || interval == cache->interval)
        return neomm__ledger_change(root, cache, ops);
    bool done = neomm__kmems_empty(root, cache->number, cache->number + 1, &objects, &frames);
    return done ? NEOMM_OK : NEOMM_E_BUSY;
}

neomm_status neomm__profile_apply(struct neomm *root, struct neomm_kmem *cache,
                                  enum neomm_heap_profile profile, bool tracked)
{
    const struct neomm__kmem_ops *ops = ops_for(profile, tracked);
    neomm_status status = NEOMM_OK;
    uint32_t interval = cache->interval;
    if (profile == NEOMM_HEAP_HARDENED)
        status = neomm__quarantine_make(root, cache);
    if (profile == NEOMM_HEAP_GUARDED)
        status = neomm__guard_begin(root);
    /* Before the magazines are emptied, which begins the count anew. */
    if (status == NEOMM_OK) {
        neomm__store_relaxed(&cache->interval,
                             profile == NEOMM_HEAP_GUARDED ? root->heap->sampling : 0);
        status = change(root, cache, ops, interval);
    }
    if (status == NEOMM_OK)
        neomm__store_relaxed(&cache->profile, (uint32_t)profile);
    else
        neomm__store_relaxed(&cache->interval, interval);
    if (interval > 0)
        neomm__guard_retire(root);
    return status;
}

neomm_status neomm__profile_adopt(struct neomm *root, struct neomm_kmem *cache)
{
    const struct neomm__heap *heap = root->heap;
    uint32_t profile = neomm_config_cache_profile(&root->config, cache->name, heap->profile);
    return neomm__profile_apply(root, cache, (enum neomm_heap_profile)profile,
                                neomm__load_acquire(&heap->sites) != NULL);
}

static neomm_status set_all(struct neomm *root, enum neomm_heap_profile profile)
{
    struct neomm__heap *heap = root->heap;
    neomm_status status = NEOMM_OK;
    uint32_t before[NEOMM__CLASSES_MAX], done = 0;
    for (; done < heap->classes && status == NEOMM_OK; done++) {
        before[done] = heap->cache[done].profile;
        status = neomm_heap_set_profile(root, &heap->cache[done], profile);
    }
    if (status == NEOMM_OK) {
        heap->runs_guarded = profile == NEOMM_HEAP_HARDENED && heap->sources > 1;
        heap->profile = (uint32_t)profile;
        heap->adopt = neomm__profile_adopt;
    } else
        for (done--; done-- > 0;)
            (void)neomm_heap_set_profile(root, &heap->cache[done],
                                         (enum neomm_heap_profile)before[done]);
    return status;
}

neomm_status neomm_heap_set_profile(struct neomm *root, struct neomm_kmem *cache,
                                    enum neomm_heap_profile profile)
{
    if (!root->heap || (unsigned)profile >= NEOMM_HEAP_PROFILES)
        return NEOMM_E_INVALID;
    if (!cache)
        return set_all(root, profile);
    if (!neomm__kmem_is_live(cache))
        return NEOMM_E_INVALID;
    return neomm__profile_apply(root, cache, profile,
                                neomm__load_acquire(&root->heap->sites) != NULL);
}

enum neomm_heap_profile neomm_heap_profile(const struct neomm *root, const struct neomm_kmem *cache)
{
    const struct neomm_kmem *which = cache ? cache : &root->heap->cache[0];
    return (enum neomm_heap_profile)neomm__load_relaxed(&which->profile);
}

static bool is_guarded(const struct neomm_kmem *cache)
{
    return neomm__kmem_is_live(cache) && neomm__load_relaxed(&cache->profile) == NEOMM_HEAP_GUARDED;
}

neomm_status neomm_heap_set_sampling(struct neomm *root, uint32_t interval)
{
    struct neomm__heap *heap = root->heap;
    neomm_status status = NEOMM_OK;
    uint32_t frames;
    if (!heap)
        return NEOMM_E_NOENT;
    neomm__store_relaxed(&heap->sampling, interval);
    for (uint32_t i = 0; i < NEOMM__KMEMS && status == NEOMM_OK; i++)
        if (is_guarded(&heap->cache[i])) {
            status = neomm__guard_begin(root);
            neomm__store_relaxed(&heap->cache[i].interval, status == NEOMM_OK ? interval : 0);
        }
    (void)neomm__heap_drain(root, &frames);
    neomm__guard_retire(root);
    return status;
}
