/* The malloc family over the engine.
 * SPDX-License-Identifier: MIT */
#include "family.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- taking ---- */

static void *take(size_t size, size_t align, neomm_flags_t flags)
{
    struct neomm *root = process.root;
    if (align <= FAMILY_ALIGN)
        return neomm_kmalloc_at(root, size, flags, NULL);
    return neomm_kmalloc_aligned_at(root, size, align, flags, NULL);
}

/* Others may have taken what the engine's callback for more memory brought; so what failed is tried
 * again with memory that was brought from here. */
static void *take_or_grow(size_t size, size_t align, neomm_flags_t flags)
{
    uint32_t seen = __atomic_load_n(&process.grown, __ATOMIC_ACQUIRE);
    void *block = take(size, align, flags);
    size_t bytes = size + (align > NEOMM_PAGE_SIZE ? align : 0);
    while (!block && bytes >= size && bytes <= process.reserved && process_grow(bytes, seen)) {
        seen = __atomic_load_n(&process.grown, __ATOMIC_ACQUIRE);
        block = take(size, align, flags);
    }
    return block;
}

/* What is no block of the heap's. */
static void *take_elsewhere(size_t size, size_t align)
{
    if (size > process.huge_above)
        return process_huge_alloc(size, align);
    bool none = size == 0 && process.zero_size != 0 && align <= FAMILY_ALIGN;
    return none ? process_zero_take() : NULL;
}

void *family_alloc(size_t size, size_t align, neomm_flags_t flags)
{
    void *block = NULL;
    struct process_thread *self = process_enter_any();
    if (self) {
        block = take_elsewhere(size, align);
        block = block ? block : take_or_grow(size + (size == 0), align, flags);
        process_leave_any(self);
    }
    if (!block)
        errno = ENOMEM;
    return block;
}

FAMILY void *malloc(size_t size)
{
    struct process_thread *self = process_self();
    void *block = NULL;
    if (PROCESS_UNLIKELY(size > FAMILY_MOVES))
        return family_alloc(size, 1, 0);
    if (PROCESS_LIKELY(process_enter(self))) {
        block = neomm_kmalloc_at(process.root, size, 0, NULL); /* size 0: family_alloc */
        process_leave(self);
    }
    if (PROCESS_LIKELY(block != NULL))
        return block;
    return family_alloc(size, 1, 0);
}

FAMILY void *calloc(size_t count, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes)) {
        errno = ENOMEM;
        return NULL;
    }
    return family_alloc(bytes, 1, NEOMM_ZERO);
}

/* ---- giving back ---- */

static void free_slowly(void *pointer)
{
    struct process_thread *self = process_enter_any();
    if (!self) {
        process_misused();
        return;
    }
    if (process_is_ram(pointer) || !process_huge_free(pointer))
        (void)neomm_kfree(process.root, pointer); /* what it refuses it reports: process_misused */
    process_leave_any(self);
}

/* NULL, huge blocks, those of no bytes, and what is not the allocator's. */
static void free_elsewhere(void *pointer)
{
    if (process_zero_owns(pointer))
        (void)process_zero_give(pointer);
    else if (pointer)
        free_slowly(pointer);
}

FAMILY void free(void *pointer)
{
    struct process_thread *self = process_self();
    if (PROCESS_UNLIKELY(!process_is_ram(pointer))) {
        free_elsewhere(pointer);
        return;
    }
    if (PROCESS_UNLIKELY(!process_enter(self))) {
        free_slowly(pointer);
        return;
    }
    (void)neomm_kfree(process.root, pointer);
    process_leave(self);
}

/* ---- changing the size ---- */

/* A large run that cannot grow in place: its pages go to another. NULL: nothing has happened. */
static void *move(void *pointer, size_t size)
{
    size_t old = size > FAMILY_MOVES ? neomm_ksize(process.root, pointer) : 0;
    if (old < FAMILY_MOVES || !process_source_moves(pointer, old, size))
        return NULL;
    void *block = take_or_grow(size, 1, 0);
    if (block) {
        process_source_move(block, pointer, old);
        (void)neomm_kfree(process.root, pointer);
    }
    return block;
}

/* A block that is huge, or is to be. NULL: see move. */
static void *resize_huge(void *pointer, size_t size)
{
    bool is_run = process_is_ram(pointer);
    size_t old = is_run ? neomm_ksize(process.root, pointer) : process_huge_bound(pointer, true);
    void *block = is_run ? NULL : process_huge_resize(pointer, size);
    if (block || old == 0)
        return block;
    if (is_run && old >= FAMILY_MOVES && size > old)
        block = process_huge_adopt(pointer, old, size);
    if (block) {
        process_source_vacate(pointer);
    } else {
        block = size > process.huge_above ? process_huge_alloc(size, 1) : take_or_grow(size, 1, 0);
        if (!block)
            return NULL;
        memcpy(block, pointer, old < size ? old : size);
    }
    if (is_run)
        (void)neomm_kfree(process.root, pointer);
    else
        (void)process_huge_free(pointer);
    return block;
}

static void *resize(void *pointer, size_t size)
{
    struct neomm *root = process.root;
    if (!process_is_ram(pointer) && process_huge_bound(pointer, true) > 0)
        return resize_huge(pointer, size);
    void *block = size > process.huge_above ? resize_huge(pointer, size) : NULL;
    if (block)
        return block;
    block = move(pointer, size);
    if (block)
        return block;
    uint32_t seen = __atomic_load_n(&process.grown, __ATOMIC_ACQUIRE);
    block = neomm_krealloc_at(root, pointer, size, 0, NULL);
    bool live = block || neomm_ksize(root, pointer) != 0;
    while (!block && live && size <= process.reserved && process_grow(size, seen)) {
        seen = __atomic_load_n(&process.grown, __ATOMIC_ACQUIRE);
        block = neomm_krealloc_at(root, pointer, size, 0, NULL);
    }
    return block;
}

static void *resize_nothing(void *pointer, size_t size)
{
    void *block = malloc(size);
    return !block || process_zero_give(pointer) ? block : NULL;
}

FAMILY void *realloc(void *pointer, size_t size)
{
    void *block = NULL;
    if (!pointer)
        return malloc(size);
    if (size == 0) {
        free(pointer);
        return NULL;
    }
    if (process_zero_owns(pointer))
        return resize_nothing(pointer, size);
    struct process_thread *self = process_enter_any();
    if (self) {
        block = resize(pointer, size);
        process_leave_any(self);
    }
    if (!block)
        errno = ENOMEM;
    return block;
}
