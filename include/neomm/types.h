/* The words every layer speaks: addresses, frame numbers, status codes, flags.
 * SPDX-License-Identifier: MIT
 *
 * Three kinds of address, never mixed:
 *   neomm_paddr_t   a physical address, 64 bits on every architecture
 *   neomm_vaddr_t   a virtual address as the MMU sees it
 *   void *          a C pointer; pointer = vaddr + the delta of its region (0 in a kernel)
 */
#ifndef NEOMM_TYPES_H
#define NEOMM_TYPES_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <neomm/options.h>

#ifdef __cplusplus
#define NEOMM_EXTERN_C_BEGIN extern "C" {
#define NEOMM_EXTERN_C_END   }
#else
#define NEOMM_EXTERN_C_BEGIN
#define NEOMM_EXTERN_C_END
#endif

#if !defined(__GNUC__)
#error "libneomm needs gcc or clang (attributes and __atomic builtins)"
#endif

#define NEOMM_MUST_CHECK          __attribute__((warn_unused_result))
#define NEOMM_NORETURN            __attribute__((noreturn))
#define NEOMM_PRINTF(text, first) __attribute__((format(printf, text, first)))

/* What an allocating function promises to compilers and analysers. gcc also learns who frees. */
#define NEOMM_MALLOC          __attribute__((malloc, warn_unused_result))
#define NEOMM_ALLOC_SIZE(...) __attribute__((alloc_size(__VA_ARGS__)))
#if defined(__clang__)
#define NEOMM_FREED_BY(function, argument)
#else
#define NEOMM_FREED_BY(function, argument) __attribute__((malloc(function, argument)))
#endif

/* The smallest leaf of all four formats, and the unit of the frame allocator. */
#define NEOMM_PAGE_SHIFT 12
#define NEOMM_PAGE_SIZE  ((size_t)1 << NEOMM_PAGE_SHIFT)

/* Orders of the frame allocator: 2^order frames, 4 KiB to 4 MiB. */
#define NEOMM_ORDER_MAX 10

typedef uint64_t neomm_paddr_t;
typedef uintptr_t neomm_vaddr_t;

/* A frame number: physical address / 4096. 32 bits reach 16 TiB. 0 is nil: frame 0 is never
 * handed out. A struct, so that a frame is never passed for an address or a count. */
typedef struct neomm_frame {
    uint32_t number;
} neomm_frame_t;

static inline neomm_frame_t neomm_frame(uint32_t number)
{
    neomm_frame_t frame;
    frame.number = number;
    return frame;
}

static inline bool neomm_frame_is_nil(neomm_frame_t frame)
{
    return frame.number == 0;
}

static inline neomm_paddr_t neomm_frame_paddr(neomm_frame_t frame)
{
    return (neomm_paddr_t)frame.number << NEOMM_PAGE_SHIFT;
}

/* The frame that holds `paddr`, which must be below 16 TiB. */
static inline neomm_frame_t neomm_paddr_frame(neomm_paddr_t paddr)
{
    return neomm_frame((uint32_t)(paddr >> NEOMM_PAGE_SHIFT));
}

/* Results. 0 or a negative error; results proper come back by pointer. A caller's mistake is a
 * status; a broken invariant of the library itself goes to neomm_port_panic. */
#define NEOMM_STATUS_LIST(X)                                                                       \
    X(OK, 0, "success")                                                                            \
    X(E_INVALID, -1, "invalid argument")                                                           \
    X(E_ALIGN, -2, "misaligned address or size")                                                   \
    X(E_RANGE, -3, "address or size out of range")                                                 \
    X(E_NOMEM, -4, "out of memory")                                                                \
    X(E_NOSPACE, -5, "no free range, slot or table entry")                                         \
    X(E_EXISTS, -6, "already mapped or present")                                                   \
    X(E_NOENT, -7, "nothing there")                                                                \
    X(E_ACCESS, -8, "not permitted")                                                               \
    X(E_FAULT, -9, "bad user address")                                                             \
    X(E_BUSY, -10, "in use")                                                                       \
    X(E_AGAIN, -11, "try again")                                                                   \
    X(E_IO, -12, "input/output error")                                                             \
    X(E_CORRUPT, -13, "stored data is damaged")                                                    \
    X(E_DOUBLE_FREE, -14, "freed already")                                                         \
    X(E_FOREIGN, -15, "not from this allocator")                                                   \
    X(E_LIMIT, -16, "limit reached")                                                               \
    X(E_UNSUPPORTED, -17, "not supported here")                                                    \
    X(E_TIMEOUT, -18, "timed out")

typedef enum neomm_status {
#define NEOMM_STATUS_ENUM(name, value, text) NEOMM_##name = value,
    NEOMM_STATUS_LIST(NEOMM_STATUS_ENUM)
#undef NEOMM_STATUS_ENUM
} neomm_status;

/* Allocation flags. 0: may sleep and may reclaim. */
typedef uint32_t neomm_flags_t;
#define NEOMM_ATOMIC    ((neomm_flags_t)1 << 0) /* must not sleep; implies NORECLAIM */
#define NEOMM_NORECLAIM ((neomm_flags_t)1 << 1) /* fail rather than call the reclaim callback */
#define NEOMM_ZERO      ((neomm_flags_t)1 << 2) /* filled with zeros */
#define NEOMM_DMA       ((neomm_flags_t)1 << 3) /* below 16 MiB */
#define NEOMM_HIGH      ((neomm_flags_t)1 << 4) /* frames above the direct map will do */
#define NEOMM_MOVABLE   ((neomm_flags_t)1 << 5) /* the owner can move the contents elsewhere */
#define NEOMM_RESERVE   ((neomm_flags_t)1 << 6) /* may use the reserve below the low watermark */

#define NEOMM_NOLOCK ((neomm_flags_t)1 << 7) /* kmalloc in an NMI: waits for nobody, may fail */

/* Rights of a mapping. Whether a page is the user's follows from its address alone, so user
 * and kernel can never mix. WRITE with EXEC is refused (NEOMM_E_ACCESS). */
typedef uint32_t neomm_prot_t;
#define NEOMM_PROT_NONE  ((neomm_prot_t)0)
#define NEOMM_PROT_READ  ((neomm_prot_t)1 << 0)
#define NEOMM_PROT_WRITE ((neomm_prot_t)1 << 1)
#define NEOMM_PROT_EXEC  ((neomm_prot_t)1 << 2)

/* How the CPU may cache a mapping (PAT entries that paging sets up). */
enum neomm_cache {
    NEOMM_CACHE_WB,       /* write-back: memory */
    NEOMM_CACHE_WT,       /* write-through */
    NEOMM_CACHE_UC_MINUS, /* uncached, an MTRR may make it write-combining */
    NEOMM_CACHE_UC        /* uncached: device registers */
};

/* The four page-table formats (Intel SDM volume 3A, chapter 4). */
enum neomm_format {
    NEOMM_FORMAT_2LEVEL, /* i386: 32-bit entries, 4K and 4M pages */
    NEOMM_FORMAT_PAE,    /* i386: 64-bit entries, 3 levels, 4K and 2M pages, NX */
    NEOMM_FORMAT_4LEVEL, /* x86_64: 48-bit addresses, 4K, 2M and 1G pages, NX */
    NEOMM_FORMAT_5LEVEL  /* x86_64: 57-bit addresses, 4K, 2M and 1G pages, NX */
};

/* What a not-present entry of a page table may hold: where the page's contents went. All zero is
 * nil. Limits by format: 2-level 2^24 slots, 2 kinds' bits and 5 of the generation; the others
 * 2^32 slots and 16 bits of the generation. */
struct neomm_swap_entry {
    uint32_t slot;
    uint16_t generation; /* of the slot's use: a stale entry does not match the record */
    uint16_t kind;       /* NEOMM_SWAP_NONE: nil; others by the swap layer, 1 to 3 */
};
enum neomm_swap_kind { NEOMM_SWAP_NONE, NEOMM_SWAP_SLOT };

/* A set of CPUs by index. */
#define NEOMM_CPU_WORDS (NEOMM_CPU_MAX / 32)
struct neomm_cpumask {
    uint32_t word[NEOMM_CPU_WORDS];
};

NEOMM_EXTERN_C_BEGIN

/* The text of a status ("out of memory"), "unknown status" for any other number. Any context. */
const char *neomm_status_text(neomm_status status);

NEOMM_EXTERN_C_END

struct neomm;

#endif
