/* C++'s new and delete, all of them, since memory of one must not meet the other of somebody else.
 * They are here by their names in the object file: no C++ library is linked.
 * SPDX-License-Identifier: MIT
 *
 * A program may define some of them itself. Then those here that do the same in another form call
 * its own, as the standard says. New that fails is left to the C++ library, which knows the new
 * handler and the exception. */
#include "family.h"

#include <dlfcn.h>
#include <stdlib.h>

#if UINTPTR_MAX > UINT32_MAX
#define SIZE "m"
#else
#define SIZE "j"
#endif
#define ALIGN   "St11align_val_t"
#define NOTHROW "RKSt9nothrow_t"

/* NAMED(function, name in the object file, parameters): weak, or a compiler may take one that is
 * called here for the one that stands here, and have it inline. */
#define NAMED(function, name, ...) FAMILY __attribute__((weak)) function(__VA_ARGS__) __asm__(name)

NAMED(void *new_one, "_Znw" SIZE, size_t size);
NAMED(void *new_one_nothrow, "_Znw" SIZE NOTHROW, size_t size, const void *nothrow);
NAMED(void *new_one_aligned, "_Znw" SIZE ALIGN, size_t size, size_t align);
NAMED(void *new_one_both, "_Znw" SIZE ALIGN NOTHROW, size_t size, size_t align,
      const void *nothrow);
NAMED(void *new_array, "_Zna" SIZE, size_t size);
NAMED(void *new_array_nothrow, "_Zna" SIZE NOTHROW, size_t size, const void *nothrow);
NAMED(void *new_array_aligned, "_Zna" SIZE ALIGN, size_t size, size_t align);
NAMED(void *new_array_both, "_Zna" SIZE ALIGN NOTHROW, size_t size, size_t align,
      const void *nothrow);

NAMED(void delete_one, "_ZdlPv", void *pointer);
NAMED(void delete_one_nothrow, "_ZdlPv" NOTHROW, void *pointer, const void *nothrow);
NAMED(void delete_one_sized, "_ZdlPv" SIZE, void *pointer, size_t size);
NAMED(void delete_one_aligned, "_ZdlPv" ALIGN, void *pointer, size_t align);
NAMED(void delete_one_both, "_ZdlPv" ALIGN NOTHROW, void *pointer, size_t align,
      const void *nothrow);
NAMED(void delete_one_sized_aligned, "_ZdlPv" SIZE ALIGN, void *pointer, size_t size, size_t align);
NAMED(void delete_array, "_ZdaPv", void *pointer);
NAMED(void delete_array_nothrow, "_ZdaPv" NOTHROW, void *pointer, const void *nothrow);
NAMED(void delete_array_sized, "_ZdaPv" SIZE, void *pointer, size_t size);
NAMED(void delete_array_aligned, "_ZdaPv" ALIGN, void *pointer, size_t align);
NAMED(void delete_array_both, "_ZdaPv" ALIGN NOTHROW, void *pointer, size_t align,
      const void *nothrow);
NAMED(void delete_array_sized_aligned, "_ZdaPv" SIZE ALIGN, void *pointer, size_t size,
      size_t align);

FAMILY void free_sized(void *pointer, size_t size);

/* ---- whose they are ---- */

/* Those here, whoever else has defined the name. */
#define HERE(function, name)                                                                       \
    extern __typeof__(function) function##_here __attribute__((alias(name), visibility("hidden")))
HERE(new_one, "_Znw" SIZE);
HERE(new_one_aligned, "_Znw" SIZE ALIGN);
HERE(new_array, "_Zna" SIZE);
HERE(new_array_aligned, "_Zna" SIZE ALIGN);
HERE(delete_one, "_ZdlPv");
HERE(delete_one_aligned, "_ZdlPv" ALIGN);
HERE(delete_array, "_ZdaPv");
HERE(delete_array_aligned, "_ZdaPv" ALIGN);

/* The compiler would take the two for the same. */
static inline uintptr_t opaque(uintptr_t address)
{
    __asm__("" : "+r"(address));
    return address;
}

#define IS_OURS(function) (opaque((uintptr_t)(function)) == opaque((uintptr_t)function##_here))

static void *next_of(const char *name)
{
    void *next = dlsym(RTLD_NEXT, name);
    if (!next)
        abort();
    return next;
}

/* ---- new ---- */

typedef void *new_fn(size_t size);
typedef void *new_nothrow_fn(size_t size, const void *nothrow);
typedef void *new_aligned_fn(size_t size, size_t align);
typedef void *new_both_fn(size_t size, size_t align, const void *nothrow);

void *new_one(size_t size)
{
    void *block = malloc(size);
    return block ? block : ((new_fn *)next_of("_Znw" SIZE))(size);
}

void *new_one_aligned(size_t size, size_t align)
{
    void *block = family_alloc(size, align, 0);
    return block ? block : ((new_aligned_fn *)next_of("_Znw" SIZE ALIGN))(size, align);
}

void *new_one_nothrow(size_t size, const void *nothrow)
{
    void *block = IS_OURS(new_one) ? malloc(size) : NULL;
    return block ? block : ((new_nothrow_fn *)next_of("_Znw" SIZE NOTHROW))(size, nothrow);
}

void *new_one_both(size_t size, size_t align, const void *nothrow)
{
    void *block = IS_OURS(new_one_aligned) ? family_alloc(size, align, 0) : NULL;
    return block ? block
                 : ((new_both_fn *)next_of("_Znw" SIZE ALIGN NOTHROW))(size, align, nothrow);
}

void *new_array(size_t size)
{
    return new_one(size);
}

void *new_array_aligned(size_t size, size_t align)
{
    return new_one_aligned(size, align);
}

void *new_array_nothrow(size_t size, const void *nothrow)
{
    if (IS_OURS(new_array))
        return new_one_nothrow(size, nothrow);
    return ((new_nothrow_fn *)next_of("_Zna" SIZE NOTHROW))(size, nothrow);
}

void *new_array_both(size_t size, size_t align, const void *nothrow)
{
    if (IS_OURS(new_array_aligned))
        return new_one_both(size, align, nothrow);
    return ((new_both_fn *)next_of("_Zna" SIZE ALIGN NOTHROW))(size, align, nothrow);
}

/* ---- delete ---- */

void delete_one(void *pointer)
{
    free(pointer);
}

void delete_one_nothrow(void *pointer, const void *nothrow)
{
    (void)nothrow;
    delete_one(pointer);
}

void delete_one_sized(void *pointer, size_t size)
{
    if (IS_OURS(delete_one))
        free_sized(pointer, size);
    else
        delete_one(pointer);
}

void delete_array(void *pointer)
{
    delete_one(pointer);
}

void delete_array_nothrow(void *pointer, const void *nothrow)
{
    (void)nothrow;
    delete_array(pointer);
}

void delete_array_sized(void *pointer, size_t size)
{
    if (IS_OURS(delete_array))
        delete_one_sized(pointer, size);
    else
        delete_array(pointer);
}

/* ---- delete of what was aligned ---- */

void delete_one_aligned(void *pointer, size_t align)
{
    (void)align;
    free(pointer);
}

void delete_one_both(void *pointer, size_t align, const void *nothrow)
{
    (void)nothrow;
    delete_one_aligned(pointer, align);
}

void delete_one_sized_aligned(void *pointer, size_t size, size_t align)
{
    if (IS_OURS(delete_one_aligned))
        free_sized(pointer, size);
    else
        delete_one_aligned(pointer, align);
}

void delete_array_aligned(void *pointer, size_t align)
{
    delete_one_aligned(pointer, align);
}

void delete_array_both(void *pointer, size_t align, const void *nothrow)
{
    (void)nothrow;
    delete_array_aligned(pointer, align);
}

void delete_array_sized_aligned(void *pointer, size_t size, size_t align)
{
    if (IS_OURS(delete_array_aligned))
        delete_one_sized_aligned(pointer, size, align);
    else
        delete_array_aligned(pointer, align);
}
