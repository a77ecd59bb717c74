/* The malloc family over the engine.
 * SPDX-License-Identifier: MIT */
#include "family.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- taking ---- */

static void *take(size_t size, size_t align, neomm_flags_t flags)
{
    struct neomm *root = process.root;
    if (align <= FAMILY_ALIGN)
        return neomm_kmalloc_at(root, size, flags, NULL);
    return neomm_kmalloc_aligned_at(root, size, align, flags, NULL);
}

/* The engine's callback for more memory is one at a time on a slot, and threads may share one; so
 * what failed is tried again with memory that was brought from here. */
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

void *family_alloc(size_t size, size_t align, neomm_flags_t flags)
{
    void *block = NULL;
    struct process_thread *self = process_enter_any();
    if (self) {
        block = take_or_grow(size + (size == 0), align, flags);
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

static void bad_free(const char *function)
{
    struct process_text text = {.length = 0};
    if (!process.options.bad_free_aborts)
        return;
    process_text_add(&text, "neomm-malloc: ");
    process_text_add(&text, function);
    process_text_add(&text,
                     ": the program ends here (NEOMM_MALLOC_OPTIONS=bad_free=log goes on)\n");
    process_text_write(&text, STDERR_FILENO);
    abort();
}

static void free_slowly(void *pointer)
{
    struct process_thread *self = process_enter_any();
    neomm_status status = NEOMM_E_FOREIGN;
    if (self) {
        status = neomm_kfree(process.root, pointer);
        process_leave_any(self);
    }
    if (status != NEOMM_OK)
        bad_free("free");
}

FAMILY void free(void *pointer)
{
    struct process_thread *self = process_self();
    if (!pointer)
        return;
    if (PROCESS_UNLIKELY(!process_enter(self))) {
        free_slowly(pointer);
        return;
    }
    neomm_status status = neomm_kfree(process.root, pointer);
    process_leave(self);
    if (PROCESS_UNLIKELY(status != NEOMM_OK))
        bad_free("free");
}

/* ---- changing the size ---- */

static void *resize(void *pointer, size_t size, bool *live)
{
    struct neomm *root = process.root;
    uint32_t seen = __atomic_load_n(&process.grown, __ATOMIC_ACQUIRE);
    void *block = neomm_krealloc_at(root, pointer, size, 0, NULL);
    if (!block)
        *live = neomm_ksize(root, pointer) != 0;
    while (!block && *live && size <= process.reserved && process_grow(size, seen)) {
        seen = __atomic_load_n(&process.grown, __ATOMIC_ACQUIRE);
        block = neomm_krealloc_at(root, pointer, size, 0, NULL);
    }
    return block;
}

FAMILY void *realloc(void *pointer, size_t size)
{
    bool live = true;
    void *block = NULL;
    if (!pointer)
        return malloc(size);
    if (size == 0) {
        free(pointer);
        return NULL;
    }
    struct process_thread *self = process_enter_any();
    if (self) {
        block = resize(pointer, size, &live);
        process_leave_any(self);
    }
    if (!live)
        bad_free("realloc");
    if (!block)
        errno = ENOMEM;
    return block;
}
