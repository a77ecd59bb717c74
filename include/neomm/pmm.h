/* Frames: the boot memory map and the page-frame allocator.
 * SPDX-License-Identifier: MIT
 *
 * The map comes from the firmware through neomm_bootmap_add*, is resolved once, and
 * neomm_pmm_init builds a bitmap and a table of descriptors from it. Memory that no entry calls
 * usable is never handed out. At every quiescent point
 *     total = free + used + reserved + metadata.
 */
#ifndef NEOMM_PMM_H
#define NEOMM_PMM_H

#include <neomm/types.h>

/* Kinds of memory, from harmless to worst: where entries overlap, the larger number wins. */
enum neomm_memory_type {
    NEOMM_MEMORY_HOTPLUG = 1, /* none yet: neomm_pmm_add may bring it */
    NEOMM_MEMORY_USABLE,
    NEOMM_MEMORY_BOOT,     /* usable after neomm_pmm_reclaim_boot: loader's data, modules */
    NEOMM_MEMORY_ACPI,     /* ACPI tables, reclaimable once read */
    NEOMM_MEMORY_KERNEL,   /* the kernel's image and other reservations */
    NEOMM_MEMORY_NVS,      /* ACPI non-volatile storage */
    NEOMM_MEMORY_RESERVED, /* reserved, and every type the firmware invents */
    NEOMM_MEMORY_BAD       /* reported faulty */
};

struct neomm_boot_range {
    neomm_paddr_t base;
    uint64_t length; /* bytes; base + length may reach 2^64 */
    enum neomm_memory_type type;
};

/* Why a part of an entry is not as the firmware said. EMPTY and WRAPS come with the entry as it
 * was added, OVERLAP with the type that won, the others with the type that the part had. Parts
 * of one kind are ascending, and those that touch come as one where nothing else came between;
 * ROUNDED goes from the first usable byte of a frame to its last. */
enum neomm_boot_note {
    NEOMM_BOOT_EMPTY,      /* length 0: ignored */
    NEOMM_BOOT_WRAPS,      /* base + length beyond 2^64: cut there */
    NEOMM_BOOT_OVERLAP,    /* a worse entry covers this part of a usable one */
    NEOMM_BOOT_ROUNDED,    /* a usable part lost because it is not a whole frame */
    NEOMM_BOOT_FRAME_ZERO, /* frame 0 is never handed out: it became RESERVED */
    NEOMM_BOOT_LIMIT,      /* above what the format or the library can address */
    NEOMM_BOOT_FULL        /* no room in the storage: memory left out, never handed out */
};

typedef void neomm_boot_note_fn(void *context, enum neomm_boot_note note,
                                const struct neomm_boot_range *part);

/* A map under construction, in storage of the caller's. */
struct neomm_bootmap {
    struct neomm_boot_range *ranges;
    uint32_t count;
    uint32_t capacity;
    uint32_t dropped; /* entries for which there was no room */
    bool resolved;    /* and nothing added since */
    bool unsafe;      /* one of the dropped entries was worse than usable */
};

/* Zones, low to high. A request falls back downwards, never upwards. */
enum neomm_zone { NEOMM_ZONE_DMA, NEOMM_ZONE_NORMAL, NEOMM_ZONE_HIGH, NEOMM_ZONES };

/* Memory that is near some CPUs (a proximity domain of ACPI's SRAT). */
struct neomm_node_range {
    neomm_paddr_t base;
    uint64_t length; /* bytes */
    uint32_t node;   /* 0 to NEOMM_NODE_MAX - 1 */
};

/* Contiguous frames with constraints. */
struct neomm_range_request {
    uint32_t frames;     /* 1 or more */
    uint32_t align;      /* frames, a power of two; 0 and 1: any */
    uint32_t boundary;   /* frames, a power of two the range must not cross; 0: any */
    neomm_paddr_t limit; /* the range ends at or below; 0: any */
    neomm_flags_t flags;
};

/* How full memory is, by the frames that the reserve leaves alone (Linux's zone watermarks). */
enum neomm_watermark {
    NEOMM_WATERMARK_NONE, /* below MIN: only NEOMM_RESERVE gets frames */
    NEOMM_WATERMARK_MIN,  /* the reserve is whole: who asks may have to reclaim */
    NEOMM_WATERMARK_LOW,  /* a quarter more than that: time to reclaim in the background */
    NEOMM_WATERMARK_HIGH  /* a half more: enough */
};

struct neomm_pmm_options {
    void *metadata;          /* 64-byte aligned; NULL: the top of the highest usable range of
                              * the direct map that has room, which must be mapped by now */
    size_t metadata_size;    /* bytes at `metadata` */
    bool metadata_zeroed;    /* it is known to be zero: initialisation touches no descriptor */
    uint32_t reserve_frames; /* the last frames of the direct map, only for NEOMM_RESERVE; at
                              * most a half of them; 0: as the configuration says */
    /* Nodes, NULL where all memory is equally near. A section of 128 MiB belongs to the node of
     * the first range listed that touches it; what no range touches, to node 0. */
    const struct neomm_node_range *node_range;
    uint32_t node_ranges;
    const uint8_t *cpu_node; /* of each CPU; NULL: 0 */
};

struct neomm_zone_stats {
    /* Frames; the first is the others' sum. Reserved: what the map lists as other than usable,
     * below the end of all memory that is or may become usable. HOTPLUG is none of them until it
     * is added. */
    uint64_t total, free, used, reserved, metadata;
    uint64_t free_runs[NEOMM_ORDER_MAX + 1]; /* free aligned blocks by order, greedy */
};

/* Asked to free about `frames` frames; returns how many it freed. Called only for a caller that
 * may reclaim, with no lock of pmm held, and never from inside itself on the same CPU. */
typedef uint32_t neomm_reclaim_fn(void *context, uint32_t frames, neomm_flags_t flags);

/* Asked to move the contents of movable frames until a block of 2^order frames is free, when there
 * are frames but no such block; true: there may be one now. Called as the above. */
typedef bool neomm_compact_fn(void *context, unsigned order, neomm_flags_t flags);

/* Told when frames are taken from a zone that is below its low watermark then, or goes below. It
 * may be called from anywhere, with any locks held: it may set a word and wake who waits. */
typedef void neomm_low_fn(void *context);

NEOMM_EXTERN_C_BEGIN

/* ---- the boot map ---- */

/* An empty map over `capacity` entries of `storage`. Three times the firmware's entries and 16
 * is always enough. */
void neomm_bootmap_init(struct neomm_bootmap *map, struct neomm_boot_range *storage,
                        uint32_t capacity);

/* Adds one entry as it comes, also to a map that is resolved already, which then has to be
 * resolved again. NEOMM_E_INVALID: no such type. NEOMM_E_NOSPACE counts it in `dropped`; a
 * dropped entry that was worse than usable makes neomm_bootmap_resolve fail, since default-deny
 * could not hold. */
neomm_status neomm_bootmap_add(struct neomm_bootmap *map, neomm_paddr_t base, uint64_t length,
                               enum neomm_memory_type type);

/* The type for an E820 or Multiboot type number: 1 usable, 3 ACPI, 4 NVS, 5 bad, others
 * reserved. (ACPI 6.4, table 15.4; Multiboot 1 3.3; Multiboot 2 3.6.8) */
enum neomm_memory_type neomm_e820_type(uint32_t type);

/* Adds an E820 table of `count` 20-byte entries {u64 base, u64 length, u32 type}, `stride`
 * bytes apart (20 or 24). PVH's table (24 bytes) has the same shape. */
neomm_status neomm_bootmap_add_e820(struct neomm_bootmap *map, const void *table, uint32_t count,
                                    uint32_t stride);

/* Adds the mmap buffer of Multiboot 1: entries {u32 size, u64 base, u64 length, u32 type}, each
 * `size` + 4 bytes. NEOMM_E_INVALID at an entry that runs over the end; those before are in. */
neomm_status neomm_bootmap_add_multiboot1(struct neomm_bootmap *map, const void *buffer,
                                          uint32_t bytes);

/* Adds a list of ranges, as a kernel has that got its map elsewhere. NEOMM_E_INVALID, with
 * nothing added: one has no such type. */
neomm_status neomm_bootmap_add_list(struct neomm_bootmap *map, const struct neomm_boot_range *list,
                                    uint32_t count);

/* Adds the memory map of Multiboot 2's boot information, of which `most` bytes can be read (what
 * the kernel has mapped there). Tags of type 6 are read; without one the UEFI map of type 17 is,
 * by the rules below. The whole information is checked before anything is added: tags inside it,
 * whole entries of a size that a later version may have enlarged, an end. As in Multiboot 1, what
 * the loader calls usable holds the kernel, its modules and the information itself too: the
 * caller adds them as KERNEL or BOOT.
 * NEOMM_E_ALIGN: not at a multiple of 8. NEOMM_E_INVALID: broken. NEOMM_E_NOENT: neither tag is
 * there. NEOMM_E_BUSY: UEFI's boot services still run (tag 18) and change the map: end them, and
 * add what GetMemoryMap said last. Source: Multiboot 2.0, 3.4 and 3.6. */
neomm_status neomm_bootmap_add_multiboot2(struct neomm_bootmap *map, const void *information,
                                          uint32_t most);

/* The type for a UEFI memory type and its attributes, once boot services have ended. (UEFI 2.10,
 * 7.2.1 and 7.2.3)
 *
 *   USABLE    conventional (7)
 *   BOOT      loader code and data (1, 2): the kernel, what the loader built for it, and often
 *             the tables and the stack it runs on; boot services code and data (3, 4): the
 *             firmware's own tables and stack, and some firmware still looks at its data when
 *             runtime services are given virtual addresses
 *   ACPI      ACPI reclaim (9)
 *   NVS       ACPI NVS (10)
 *   BAD       unusable (8): errors were found in it
 *   RESERVED  runtime services (5, 6), which are called later; device memory and ports (11, 12);
 *             PAL code (13); persistent memory (14), whose contents outlive the kernel and are
 *             somebody's; unaccepted memory (15), where an access traps until the hypervisor is
 *             asked; 0 and all that firmware and loaders invent
 *
 * Of the first three kinds, memory that a runtime service needs mapped, that is set aside for a
 * purpose (SP), that keeps its contents (NV), or that cannot be cached write-back is RESERVED. */
enum neomm_memory_type neomm_uefi_type(uint32_t type, uint64_t attributes);

/* Adds the map that UEFI's GetMemoryMap gave: `bytes` of descriptors, `descriptor_bytes` apart
 * (40 or more: the firmware says). NEOMM_E_INVALID, with nothing added: less than 40, or not whole
 * descriptors. */
neomm_status neomm_bootmap_add_uefi(struct neomm_bootmap *map, const void *buffer, uint32_t bytes,
                                    uint32_t descriptor_bytes);

/* Sorts, merges, resolves overlaps (the worst type wins), rounds usable parts inwards and the
 * others outwards to frames, and cuts at `limit` bytes (rounded down to frames; 0: 16 TiB). A
 * frame that BOOT or ACPI and nothing else covers only in part becomes RESERVED, since a reclaim
 * would hand it out. HOTPLUG counts where it covers a whole frame and nothing else touches that.
 * note may be NULL; it must not touch the map.
 * Afterwards ranges are ascending, disjoint, whole frames, neighbours differ in type.
 * NEOMM_E_NOSPACE, with nothing changed: an entry worse than usable was dropped.
 * Cost: n log n. */
neomm_status neomm_bootmap_resolve(struct neomm_bootmap *map, neomm_paddr_t limit,
                                   neomm_boot_note_fn *note, void *context);

/* First byte above all usable memory of a resolved map. */
neomm_paddr_t neomm_bootmap_end(const struct neomm_bootmap *map);

/* ---- the allocator ---- */

/* Bytes of metadata for a resolved map: bitmap, counters, descriptors. */
size_t neomm_pmm_metadata_size(const struct neomm *root, const struct neomm_bootmap *map);

/* Builds the allocator. NEOMM_E_INVALID: map not resolved or without usable memory;
 * NEOMM_E_NOMEM: no place for the metadata; NEOMM_E_ALIGN: the buffer; NEOMM_E_EXISTS:
 * initialised already. Memory that the format cannot address is left out, with a warning in the
 * log (2-level: beyond 4 GiB, PAE: beyond 16 GiB). */
neomm_status neomm_pmm_init(struct neomm *root, const struct neomm_bootmap *map,
                            const struct neomm_pmm_options *options);

/* Ends the layer. NEOMM_E_BUSY while a frame is in use (the leak check) or a higher layer is
 * initialised. */
neomm_status neomm_pmm_fini(struct neomm *root);

/* Allocates 2^order contiguous frames, aligned to their size. Zones from the highest that flags
 * allow downwards: HIGH, else NORMAL, else DMA; without NEOMM_HIGH the frames lie in the direct
 * map. The first frame's descriptor: references 1, order set, all else 0.
 * NEOMM_E_NOMEM, NEOMM_E_INVALID (order). Sleeps only in the reclaim callback, which neither
 * ATOMIC nor NORECLAIM call. Locks: pmm. Interrupts: yes, with ATOMIC. */
neomm_status neomm_pmm_alloc(struct neomm *root, unsigned order, neomm_flags_t flags,
                             neomm_frame_t *frame) NEOMM_MUST_CHECK;

/* Frees what neomm_pmm_alloc gave, with the same order. Errors, with nothing changed:
 * NEOMM_E_DOUBLE_FREE; NEOMM_E_FOREIGN (not RAM, reserved, metadata, frame 0);
 * NEOMM_E_INVALID (order differs); NEOMM_E_BUSY (references other than 1, or still mapped). */
neomm_status neomm_pmm_free(struct neomm *root, neomm_frame_t frame, unsigned order);

/* Allocates `count` single frames into frames[]; all or none. Of two callers for whom there are not
 * enough frames together one is served if there are enough for it. */
neomm_status neomm_pmm_alloc_bulk(struct neomm *root, uint32_t count, neomm_flags_t flags,
                                  neomm_frame_t *frames) NEOMM_MUST_CHECK;
/* Frees `count` single frames; stops at the first error with the number freed in *done. */
neomm_status neomm_pmm_free_bulk(struct neomm *root, uint32_t count, const neomm_frame_t *frames,
                                 uint32_t *done);

/* Allocates any number of contiguous frames; each becomes a frame of order 0 with one
 * reference. Cost: a search of the bitmap. */
neomm_status neomm_pmm_alloc_range(struct neomm *root, const struct neomm_range_request *request,
                                   neomm_frame_t *first) NEOMM_MUST_CHECK;
neomm_status neomm_pmm_free_range(struct neomm *root, neomm_frame_t first, uint32_t frames);

/* Makes a block of 2^order frames that many single frames of the caller's, each to be freed by
 * itself or in ranges. For a length that is no power of two: take a block, split it, free the end
 * of it. NEOMM_E_FOREIGN: no RAM; NEOMM_E_INVALID: not a block of that order that the caller alone
 * owns, or what is behind its first frame is in use. Any context. Locks: none. Cost: the frames. */
neomm_status neomm_pmm_split(struct neomm *root, neomm_frame_t frame, unsigned order);

/* Takes exactly these free frames (device memory, a crash kernel): NEOMM_E_BUSY if one is not
 * free, with nothing changed. Undone by neomm_pmm_free_range. */
neomm_status neomm_pmm_claim(struct neomm *root, neomm_frame_t first, uint32_t frames);

/* ---- bad memory ---- */

/* What neomm_pmm_memtest writes and expects to read back, passes over the whole range each: */
#define NEOMM_MEMTEST_ONES  ((uint32_t)1 << 0) /* 64: a one walks through zeros, and through */
#define NEOMM_MEMTEST_ZEROS ((uint32_t)1 << 1) /* 64: a zero, through ones: data lines, cells */
#define NEOMM_MEMTEST_ADDRESS                                                                      \
    ((uint32_t)1 << 2) /* 2: each word its own address, and that                                   \
                        * inverted: address lines, RAM seen twice */
#define NEOMM_MEMTEST_PATTERNS                                                                     \
    ((uint32_t)1 << 3) /* 6: all zeros, all ones, both alternations, and                           \
                        * mixed bits with their inverse: neighbours */
#define NEOMM_MEMTEST_ALL    ((uint32_t)0xf)
#define NEOMM_MEMTEST_RETIRE ((uint32_t)1 << 8) /* each bad frame: neomm_pmm_retire */

struct neomm_memtest_result {
    neomm_paddr_t address; /* of the lowest word of 8 bytes that did not hold; all 0: none */
    uint64_t bits;         /* of that word, those that were wrong at least once */
    uint32_t frames;       /* that did not hold */
};

/* Tests `frames` frames from `first`, which the caller has claimed or allocated as a range or one
 * by one, and which nobody looks at: their contents are lost, those of other memory are not
 * touched. `tests`: of the NEOMM_MEMTEST_* above. The CPU's caches are flushed between writing and
 * reading. NEOMM_E_CORRUPT: it was bad memory, see *result; after RETIRE the caller has the good
 * frames still, and frees them without the others. NEOMM_E_INVALID (no frames, no such test, a
 * part of a larger block), NEOMM_E_FOREIGN (not the caller's), NEOMM_E_BUSY (references other than
 * 1, mapped, or another layer's), with nothing touched; NEOMM_E_NOMEM: a frame above the direct
 * map found no slot, and nothing is known or retired. Masks interrupts for a frame at a time. Cost:
 * a write and a read of all frames a pass. */
neomm_status neomm_pmm_memtest(struct neomm *root, neomm_frame_t first, uint32_t frames,
                               uint32_t tests,
                               struct neomm_memtest_result *result) NEOMM_MUST_CHECK;

/* Takes an allocated frame of order 0 out of use for good: it counts as reserved from now on, and
 * freeing it is NEOMM_E_FOREIGN. Errors as of neomm_pmm_free. To keep it away after the next boot,
 * add it to the boot map as NEOMM_MEMORY_BAD. Locks: pmm. */
neomm_status neomm_pmm_retire(struct neomm *root, neomm_frame_t frame);

/* What frames hold while they are free, and what an owner finds: */
#define NEOMM_FILL_POISON                                                                          \
    ((uint32_t)1 << 0) /* a pattern while free: who writes to a frame that is free is found out    \
                        * when it is allocated next: the log says where, the frame is retired,     \
                        * and the caller gets another */
#define NEOMM_FILL_JUNK ((uint32_t)1 << 1) /* not zeros by luck, but where ZERO is asked for */

/* Sets the fill, of the NEOMM_FILL_* above; 0, as it is at first: none. All memory must be mapped
 * by now, and no other CPU may be inside the library. neomm_pmm_claim looks at nothing: it is for
 * memory that others may write to. Cost: POISON writes all free frames now and a frame a call from
 * then on, and reads it. */
void neomm_pmm_set_fill(struct neomm *root, uint32_t fill);

/* Turns memory of type BOOT and ACPI into free memory; returns the frames gained. Once. */
uint64_t neomm_pmm_reclaim_boot(struct neomm *root);

/* The one callback for when frames run out (vmm registers itself). NULL takes it back. Ignored
 * while the layer is not initialised. */
void neomm_pmm_set_reclaim(struct neomm *root, neomm_reclaim_fn *reclaim, void *context);

/* The same for who makes contiguous memory. */
void neomm_pmm_set_compact(struct neomm *root, neomm_compact_fn *compact, void *context);

/* The same for who is to be told that memory gets short. Not while another CPU allocates. */
void neomm_pmm_set_low(struct neomm *root, neomm_low_fn *low, void *context);

/* Makes memory free that the boot map listed as NEOMM_MEMORY_HOTPLUG and that is there now:
 * whole frames, all of one such range; its metadata is there since neomm_pmm_init. The direct map
 * must reach it, or it is of zone HIGH. NEOMM_E_ALIGN; NEOMM_E_INVALID (nothing);
 * NEOMM_E_FOREIGN (a part is not listed, as HOTPLUG or as what is or becomes usable);
 * NEOMM_E_EXISTS (all is listed, but a part was usable already or is for
 * neomm_pmm_reclaim_boot); NEOMM_E_NOSPACE (added in too many separate parts: 7 have room at
 * least, and parts that touch are one). Locks: pmm. Cost: the frames; CPUs. */
neomm_status neomm_pmm_add(struct neomm *root, neomm_paddr_t base, uint64_t length);

/* ---- the CPUs' caches ---- */

/* Gives back what all CPUs keep in front of the bitmap. The allocator does so by itself before it
 * reports that memory ran out. Any context; may be called from an interrupt, but then the
 * interrupted CPU's cache may be passed over. Cost: CPUs, and a clear bit a frame. */
void neomm_pmm_drain(struct neomm *root);
/* A CPU stops, or comes back: while it is offline its caches keep nothing. Called when it runs no
 * code of the library, or by a kernel that wants no cache on a CPU. All CPUs are online after
 * neomm_pmm_init. NEOMM_E_INVALID: no such CPU. */
neomm_status neomm_pmm_cpu_offline(struct neomm *root, uint32_t cpu);
neomm_status neomm_pmm_cpu_online(struct neomm *root, uint32_t cpu);

/* ---- figures ---- */

/* Free frames now, all zones; a racy sum. Any context. Cost: zones times CPUs. */
uint64_t neomm_pmm_free_frames(const struct neomm *root);
/* One zone's statistics, of all nodes or of one. Drains the CPUs' caches first, so that free
 * blocks are whole. Cost: a pass over its bitmap. Any context. */
void neomm_pmm_zone_stats(struct neomm *root, enum neomm_zone zone, struct neomm_zone_stats *stats);
void neomm_pmm_node_stats(struct neomm *root, uint32_t node, enum neomm_zone zone,
                          struct neomm_zone_stats *stats);
/* The highest watermark that a zone's free frames reach; what CPUs keep in caches counts as free.
 * HIGH for a zone without frames. Any context. Cost: nodes times CPUs. */
enum neomm_watermark neomm_pmm_watermark(const struct neomm *root, enum neomm_zone zone);
/* Frames that allocations with these flags could have now, without the reserve unless they may use
 * it; a racy sum. Any context. Cost: nodes times zones times CPUs. */
uint64_t neomm_pmm_available(const struct neomm *root, neomm_flags_t flags);
/* The zone of a frame, NEOMM_ZONES where there is no RAM. Any context. */
enum neomm_zone neomm_pmm_zone_of(const struct neomm *root, neomm_frame_t frame);
/* How much of a zone's free memory is of no use for blocks of 2^order frames: 0 (all of it could
 * be) to 1000 (none; also without free memory). Source: M. Gorman, A. Whitcroft, "The What, The
 * Why and the Where To of Anti-Fragmentation", OLS 2006. Any context. */
uint32_t neomm_pmm_fragmentation(const struct neomm_zone_stats *stats, unsigned order);

NEOMM_EXTERN_C_END

#endif
