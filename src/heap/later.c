/* What is freed where nobody may be waited for.
 * SPDX-License-Identifier: MIT */
#include "magazine.h"

/* What is written into a freed object in place of a pointer, and read back from there: who writes
 * to it without the secret does not lead the heap to a place of his choice. */
static uintptr_t hidden(const struct neomm *root, const void *object, uintptr_t link)
{
    return link ^ (uintptr_t)neomm__mix(root->heap->secret ^ (uintptr_t)object);
}

static void set_link(const struct neomm *root, void *object, const void *next)
{
    uintptr_t link = hidden(root, object, (uintptr_t)next);
    memcpy(object, &link, sizeof(link));
}

static void *link_of(const struct neomm *root, const void *object)
{
    uintptr_t link;
    memcpy(&link, object, sizeof(link));
    return (void *)hidden(root, object, link);
}

/* An object that cannot be freed here and now, since its slab may be locked by what was
 * interrupted: to this CPU's list, whose links lie in the objects. */
static neomm_status put_off(struct neomm *root, void *object)
{
    void **list = &root->heap->cpu[neomm_port_pin()->index].deferred;
    void *first = neomm__load_relaxed(list);
    bool twice = first == object;
    while (!twice) {
        set_link(root, object, first);
        if (neomm__cas(list, &first, object))
            break;
        twice = first == object;
    }
    neomm_port_unpin();
    return twice ? NEOMM_E_DOUBLE_FREE : NEOMM_OK;
}

/* Into the magazine, if there is room. */
static bool push_unlocked(struct neomm *root, const struct neomm_kmem *cache, void *object)
{
    struct neomm__magazine *magazine = neomm__magazine_pin(root, cache);
    bool done = false;
    if (neomm__magazine_visit(root->heap, cache, magazine)) {
        done = neomm__magazine_kept(magazine) < magazine->slots &&
               neomm__magazine_push(magazine, object);
        if (done)
            NEOMM__OBJECT_FREED(object, cache->size);
        neomm__magazine_part(cache, magazine);
    }
    neomm_port_unpin();
    return done;
}

neomm_status neomm__free_nolock(struct neomm *root, const struct neomm_kmem *cache, void *object)
{
    return cache && push_unlocked(root, cache, object) ? NEOMM_OK : put_off(root, object);
}

/* Frees one and returns the next, NULL at the end of the list. Who was freed twice while he waited
 * may have made a circle of it: the link is taken away, and gone with a block that is free. */
static void *free_one(struct neomm *root, void *object)
{
    struct neomm__heap_place place;
    neomm_status status = neomm__heap_find(root, object, &place);
    if (status != NEOMM_OK && !neomm__guard_owns(root->heap, object)) {
        (void)neomm__heap_refuse(root, "kfree_nolock", object, status);
        return NULL;
    }
    void *next = link_of(root, object);
    set_link(root, object, NULL);
    if (place.cache && place.cache->construct)
        place.cache->construct(place.cache->context, object);
    (void)neomm_kfree(root, object);
    return next;
}

static void free_deferred(struct neomm *root, struct neomm__heap_cpu *cpu)
{
    void *object = NULL;
    if (neomm__load_relaxed(&cpu->deferred))
        object = neomm__exchange(&cpu->deferred, NULL);
    while (object)
        object = free_one(root, object);
}

void neomm__deferred_free(struct neomm *root)
{
    for (uint32_t cpu = 0; cpu < root->cpus; cpu++)
        free_deferred(root, &root->heap->cpu[cpu]);
}
