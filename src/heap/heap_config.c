/* What memory_manager.conf says of a heap that has begun.
 * SPDX-License-Identifier: MIT */
#include "profile.h"

/* The first error comes back; each is logged, since nothing in a configuration stops a boot. */
static void note(neomm_status *first, const char *what, neomm_status status)
{
    if (status == NEOMM_OK)
        return;
    neomm__log(NEOMM_LOG_WARNING, "heap: the configuration's %s: %s", what,
               neomm_status_text(status));
    if (*first == NEOMM_OK)
        *first = status;
}

static neomm_status configure_caches(struct neomm *root)
{
    neomm_status first = NEOMM_OK;
    for (uint32_t i = 0; i < NEOMM__KMEMS; i++) {
        struct neomm_kmem *cache = &root->heap->cache[i];
        if (neomm__kmem_is_live(cache))
            note(&first, cache->name, neomm__profile_adopt(root, cache));
    }
    return first;
}

neomm_status neomm_heap_configure(struct neomm *root)
{
    const struct neomm_config_heap *config = &root->config.heap;
    neomm_status first = NEOMM_OK;
    if (!root->heap)
        return NEOMM_E_NOENT;
    if (config->sampling != root->heap->sampling)
        note(&first, "sampling", neomm_heap_set_sampling(root, config->sampling));
    note(&first, "profile",
         neomm_heap_set_profile(root, NULL, (enum neomm_heap_profile)config->profile));
    neomm_status status = configure_caches(root);
    if (first == NEOMM_OK)
        first = status;
    note(&first, "call_sites", neomm_heap_track(root, config->call_sites));
    return first;
}
