/* Objects: their names, their life, and anonymous shared memory.
 * SPDX-License-Identifier: MIT */
#include "vmm/cache.h"

/* ---- pages ---- */

neomm_status neomm__object_enter(struct neomm *root, struct neomm_object *object, uint64_t page,
                                 neomm_frame_t frame, struct neomm_swap_entry slot)
{
    struct neomm__frame *entry = neomm__frame(root, frame);
    neomm_status status = neomm__page_set(root, &object->pages, page, neomm__page_of_frame(frame));
    if (status != NEOMM_OK)
        return status;
    entry->kind = NEOMM__KIND_OBJECT;
    status = neomm__rmap_add(root, entry, neomm__object_mapping(object, page));
    NEOMM__ASSERT(status == NEOMM_OK);
    if (slot.kind != NEOMM_SWAP_NONE) {
        entry->owner = slot.slot;
        neomm__frame_set(entry, NEOMM__FRAME_SLOT);
    } else {
        neomm__frame_set(entry, NEOMM__FRAME_DIRTY);
    }
    neomm__user_frame_admit(root, &root->vmm->global, frame);
    return NEOMM_OK;
}

/* A leaf goes, if it is there: who changed it first has seen to it. */
static bool unmap_leaf(struct neomm *root, struct neomm_space *space, neomm_frame_t frame,
                       neomm_vaddr_t vaddr)
{
    const struct neomm_mapping leaf = {.state = NEOMM_MAPPING_PRESENT,
                                       .paddr = neomm_frame_paddr(frame)};
    const struct neomm_mapping none = {.state = NEOMM_MAPPING_NONE};
    struct neomm_mapping last;
    if (neomm_paging_exchange(root, &space->tables, vaddr, &leaf, &none, &last) != NEOMM_OK)
        return false;
    if (last.accessed)
        neomm__frame_rejuvenate(neomm__frame(root, frame));
    neomm__user_frame_leave(root, space, frame, vaddr, last.dirty, NULL);
    return true;
}

/* A leaf whose entry is in the set has been counted, so it can go while fork fills its space. */
void neomm__object_unmap(struct neomm *root, neomm_frame_t frame)
{
    struct neomm__frame *entry = neomm__frame(root, frame);
    uint32_t count;
    while ((count = neomm__rmap_count(entry)) > 1) {
        struct neomm_space *space = NULL;
        uint64_t mapping = 0;
        uint32_t position = 0;
        neomm_irq_t irq = neomm__rmap_lock(entry);
        while (!space && neomm__rmap_next(root, entry, &position, &mapping))
            space = neomm__space_hold_filling(root, mapping);
        neomm__rmap_unlock(entry, irq);
        if (!space)
            continue;
        bool unmapped = unmap_leaf(root, space, frame, neomm__mapping_vaddr(mapping));
        neomm__space_drop(space);
        if (!unmapped)
            neomm__rmap_wait(entry, count);
    }
}

static void remove_page(struct neomm *root, struct neomm_object *object, uint64_t page,
                        uint64_t word)
{
    if (neomm__page_is_frame(word)) {
        neomm_frame_t frame = neomm__page_frame(word);
        neomm__object_unmap(root, frame);
        neomm__user_frame_dismiss(root, frame, neomm__object_mapping(object, page), NULL);
    } else {
        (void)neomm_swap_free(root, neomm__page_swap(word));
    }
    neomm__page_clear(root, &object->pages, page);
}

/* Everything from `page` on; the object is locked. */
static void truncate(struct neomm *root, struct neomm_object *object, uint64_t page)
{
    uint64_t word;
    while ((word = neomm__page_next(&object->pages, &page)) != 0)
        remove_page(root, object, page, word);
}

/* The page is in the tree as this frame, and nobody has it or looks at it but who evicts it. */
static bool may_evict(const struct neomm_object *object, uint64_t page,
                      const struct neomm__frame *entry, neomm_frame_t frame)
{
    return neomm__page_get(&object->pages, page) == neomm__page_of_frame(frame) &&
           neomm__rmap_count(entry) == 1 && neomm__load_acquire(&entry->references) == 2 &&
           !neomm__frame_has(entry, NEOMM__FRAME_DIRTY);
}

struct neomm_object *neomm__object_hold(struct neomm *root, struct neomm__frame *entry,
                                        uint64_t *mapping)
{
    struct neomm_object *object = NULL;
    uint32_t position = 0;
    neomm_irq_t irq = neomm__rmap_lock(entry);
    while (!object && neomm__rmap_next(root, entry, &position, mapping))
        if (*mapping & NEOMM__RMAP_OBJECT)
            object = root->vmm->object[neomm__mapping_space(*mapping & ~NEOMM__RMAP_OBJECT)];
    if (object)
        (void)neomm__fetch_add(&object->busy, 1);
    neomm__rmap_unlock(entry, irq);
    return object;
}

void neomm__object_drop(struct neomm_object *object)
{
    const uint32_t *word = &object->busy;
    if (neomm__fetch_sub(&object->busy, 1) == 1)
        neomm_port_wake(word, UINT32_MAX);
}

neomm_status neomm__object_evict(struct neomm *root, neomm_frame_t frame,
                                 struct neomm_swap_entry slot)
{
    struct neomm__frame *entry = neomm__frame(root, frame);
    uint64_t mapping;
    struct neomm_object *object = neomm__object_hold(root, entry, &mapping);
    if (!object)
        return NEOMM_E_AGAIN;
    uint64_t page = neomm__mapping_vaddr(mapping) >> NEOMM_PAGE_SHIFT;
    bool gone = false;
    if (neomm__mutex_try_lock(&object->lock)) {
        gone = may_evict(object, page, entry, frame);
        if (gone) {
            neomm_status status =
                neomm__page_set(root, &object->pages, page, neomm__page_of_swap(slot));
            NEOMM__ASSERT(status == NEOMM_OK);
            neomm__user_frame_dismiss(root, frame, mapping, &slot);
        }
        neomm__mutex_unlock(&object->lock);
    }
    neomm__object_drop(object);
    return gone ? NEOMM_OK : NEOMM_E_AGAIN;
}

/* ---- the table of objects; spaces_lock is held ---- */

static bool same_name(const char *a, const char *b)
{
    for (unsigned i = 0; i < NEOMM_OBJECT_NAME; i++)
        if (a[i] != b[i] || a[i] == '\0')
            return a[i] == b[i];
    return true;
}

static struct neomm_object *named(struct neomm__vmm *vmm, const char *name)
{
    for (uint32_t i = 1; i < NEOMM__OBJECT_MAX; i++)
        if (vmm->object[i] && vmm->object[i]->name[0] != '\0' &&
            same_name(vmm->object[i]->name, name))
            return vmm->object[i];
    return NULL;
}

static neomm_status enter_table(struct neomm__vmm *vmm, struct neomm_object *object)
{
    if (object->name[0] != '\0' && named(vmm, object->name))
        return NEOMM_E_EXISTS;
    for (uint32_t i = 1; i < NEOMM__OBJECT_MAX; i++)
        if (!vmm->object[i]) {
            object->index = i;
            vmm->object[i] = object;
            vmm->objects++;
            return NEOMM_OK;
        }
    return NEOMM_E_NOSPACE;
}

/* ---- life ---- */

static neomm_status name_object(struct neomm_object *object, const char *name)
{
    unsigned i = 0;
    for (; name && name[i] != '\0'; i++) {
        if (i == NEOMM_OBJECT_NAME - 1)
            return NEOMM_E_INVALID;
        object->name[i] = name[i];
    }
    return name && i == 0 ? NEOMM_E_INVALID : NEOMM_OK;
}

static uint64_t pages_of(uint64_t bytes)
{
    return (bytes >> NEOMM_PAGE_SHIFT) + ((bytes & (NEOMM_PAGE_SIZE - 1)) != 0);
}

neomm_status neomm__object_create(struct neomm *root, const char *name, uint64_t bytes,
                                  struct neomm_pager *pager, struct neomm_object **object)
{
    struct neomm__vmm *vmm = root->vmm;
    if (!vmm)
        return NEOMM_E_NOENT;
    if (pages_of(bytes) >> NEOMM__MAPPING_PAGE_BITS != 0)
        return NEOMM_E_RANGE;
    struct neomm_object *made =
        NEOMM__FAULT(VMM_OBJECT) ? NULL : neomm_kzalloc(root, sizeof(*made), 0);
    if (!made)
        return NEOMM_E_NOMEM;
    neomm__lock_init(&made->lock, NEOMM_LOCK_CLASS_OBJECT);
    made->size = pages_of(bytes);
    made->bytes = bytes;
    made->pager = pager;
    made->references = name ? 2 : 1;
    neomm_status status = name_object(made, name);
    if (status == NEOMM_OK) {
        neomm__mutex_lock(&vmm->spaces_lock);
        status = enter_table(vmm, made);
        neomm__mutex_unlock(&vmm->spaces_lock);
    }
    if (status == NEOMM_OK)
        *object = made;
    else
        (void)neomm_kfree(root, made);
    return status;
}

neomm_status neomm_object_create(struct neomm *root, const char *name, uint64_t bytes,
                                 struct neomm_object **object)
{
    return neomm__object_create(root, name, bytes, NULL, object);
}

neomm_status neomm_object_open(struct neomm *root, const char *name, struct neomm_object **object)
{
    struct neomm__vmm *vmm = root->vmm;
    neomm__mutex_lock(&vmm->spaces_lock);
    *object = named(vmm, name);
    if (*object)
        (void)neomm__fetch_add(&(*object)->references, 1);
    neomm__mutex_unlock(&vmm->spaces_lock);
    return *object ? NEOMM_OK : NEOMM_E_NOENT;
}

/* Nobody has a reference; evictions that found a page of it may still be looking. */
static void end(struct neomm *root, struct neomm_object *object)
{
    struct neomm_pager *pager = object->pager;
    neomm_status status = NEOMM_OK;
    uint32_t busy;
    neomm__mutex_lock(&root->vmm->spaces_lock);
    object->ending = true;
    neomm__mutex_unlock(&root->vmm->spaces_lock);
    if (pager) {
        status = neomm__cache_end(root, object);
    } else {
        neomm__mutex_lock(&object->lock);
        truncate(root, object, 0);
        neomm__mutex_unlock(&object->lock);
    }
    while ((busy = neomm__load_acquire(&object->busy)) != 0)
        (void)neomm_port_wait(&object->busy, busy, UINT64_MAX);
    neomm__mutex_lock(&root->vmm->spaces_lock);
    root->vmm->object[object->index] = NULL;
    root->vmm->objects--;
    neomm__mutex_unlock(&root->vmm->spaces_lock);
    (void)neomm_kfree(root, object);
    if (pager && pager->released)
        pager->released(pager, status);
}

void neomm_object_close(struct neomm *root, struct neomm_object *object)
{
    if (neomm__fetch_sub(&object->references, 1) == 1)
        end(root, object);
}

neomm_status neomm_object_unlink(struct neomm *root, const char *name)
{
    struct neomm__vmm *vmm = root->vmm;
    neomm__mutex_lock(&vmm->spaces_lock);
    struct neomm_object *object = named(vmm, name);
    if (object)
        object->name[0] = '\0';
    neomm__mutex_unlock(&vmm->spaces_lock);
    if (object)
        neomm_object_close(root, object);
    return object ? NEOMM_OK : NEOMM_E_NOENT;
}

neomm_status neomm_object_resize(struct neomm *root, struct neomm_object *object, uint64_t bytes)
{
    if (pages_of(bytes) >> NEOMM__MAPPING_PAGE_BITS != 0)
        return NEOMM_E_RANGE;
    if (object->pager)
        return neomm__cache_resize(root, object, bytes);
    neomm__mutex_lock(&object->lock);
    object->size = pages_of(bytes);
    truncate(root, object, object->size);
    neomm__mutex_unlock(&object->lock);
    return NEOMM_OK;
}

uint64_t neomm_object_size(struct neomm_object *object)
{
    neomm__mutex_lock(&object->lock);
    uint64_t bytes = object->pager ? object->bytes : object->size << NEOMM_PAGE_SHIFT;
    neomm__mutex_unlock(&object->lock);
    return bytes;
}

void neomm__object_get(struct neomm *root, uint32_t index)
{
    if (index != 0)
        (void)neomm__fetch_add(&root->vmm->object[index]->references, 1);
}

void neomm__object_put(struct neomm *root, uint32_t index)
{
    if (index == 0)
        return;
    struct neomm__vmm *vmm = root->vmm;
    struct neomm_object *object = vmm->object[index];
    if (neomm__fetch_sub(&object->references, 1) != 1)
        return;
    struct neomm_object *head = neomm__load_acquire(&vmm->unreferenced);
    do
        object->next = head;
    while (!neomm__cas(&vmm->unreferenced, &head, object));
}

void neomm__objects_end(struct neomm *root)
{
    struct neomm__vmm *vmm = root->vmm;
    if (!neomm__load_acquire(&vmm->unreferenced))
        return;
    struct neomm_object *object = neomm__exchange(&vmm->unreferenced, NULL);
    while (object) {
        struct neomm_object *next = object->next;
        end(root, object);
        object = next;
    }
}

/* ---- the check ---- */

uint64_t neomm__object_fsck(struct neomm *root, const struct neomm_object *object,
                            struct neomm__report *report)
{
    uint64_t page = 0, frames = 0, word;
    if (object->references == 0 || object->busy != 0)
        neomm__report(report, "vmm: object %u: %u references, %u holds", object->index,
                      object->references, object->busy);
    if (object->pager)
        return neomm__cache_fsck(root, object, report);
    for (; (word = neomm__page_next(&object->pages, &page)) != 0; page++) {
        if (page >= object->size)
            neomm__report(report, "vmm: object %u: page %llu is beyond its %llu", object->index,
                          (unsigned long long)page, (unsigned long long)object->size);
        if (!neomm__page_is_frame(word)) {
            if (neomm_swap_users(root, neomm__page_swap(word)) == 0)
                neomm__report(report, "vmm: object %u: page %llu is in a slot that is free",
                              object->index, (unsigned long long)page);
            continue;
        }
        frames++;
        const struct neomm__frame *entry = neomm__frame(root, neomm__page_frame(word));
        if (!entry || entry->kind != NEOMM__KIND_OBJECT ||
            !neomm__rmap_has(root, entry, neomm__object_mapping(object, page)))
            neomm__report(report, "vmm: object %u: page %llu: frame %#x does not lead back",
                          object->index, (unsigned long long)page, neomm__page_frame(word).number);
    }
    return frames;
}
