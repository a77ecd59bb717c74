/* Of the malloc family: frees with a size, and the bounds of an object.
 * SPDX-License-Identifier: MIT */
#include "family.h"

#include <stdlib.h>

/* Of C23, and of C++ by malloc_new.c; and of hardened_malloc. */
FAMILY void free_sized(void *pointer, size_t size);
FAMILY void free_aligned_sized(void *pointer, size_t align, size_t size);
FAMILY size_t malloc_object_size(const void *pointer);
FAMILY size_t malloc_object_size_fast(const void *pointer);

/* Where every size is known; elsewhere to look it up would cost more than the free. */
static void free_checked(void *pointer, size_t size)
{
    struct process_thread *self = process_enter_any();
    if (!self) {
        process_misused();
        return;
    }
    (void)neomm_kfree_sized(process.root, pointer, size + (size == 0));
    process_leave_any(self);
}

void free_sized(void *pointer, size_t size)
{
    bool sized = process.options.profile == NEOMM_HEAP_HARDENED;
    if (!sized || !process_is_ram(pointer))
        free(pointer);
    else
        free_checked(pointer, size);
}

void free_aligned_sized(void *pointer, size_t align, size_t size)
{
    (void)align;
    free_sized(pointer, size);
}

/* Bytes from anywhere in a block to the end of what it may have; of what is not the allocator's
 * nothing is known. */
size_t malloc_object_size(const void *pointer)
{
    if (!pointer || process_zero_owns(pointer))
        return 0;
    struct process_thread *self = process_enter_any();
    if (!self)
        return SIZE_MAX;
    size_t size = process_is_ram(pointer) ? neomm_heap_bound(process.root, pointer)
                                          : process_huge_bound(pointer, false);
    process_leave_any(self);
    if (size == 0 && !process_is_ram(pointer))
        return SIZE_MAX;
    if (size == 0)
        process_accuse("malloc_object_size", pointer, "no live block is there");
    return size;
}

size_t malloc_object_size_fast(const void *pointer)
{
    return malloc_object_size(pointer);
}
