/* Page-table entries, encoded and decoded: what the four formats have in common.
 * SPDX-License-Identifier: MIT
 *
 * A format header (format_*.h) first defines the width and its fields, then includes this file,
 * so every function here is compiled for one format and inlined into its engine:
 *
 *   entry_t                   the unsigned integer of an entry
 *   FORMAT_NAME               how the engine's symbol ends
 *   FORMAT_ID                 enum neomm_format
 *   FORMAT_LEVELS             levels; level 0 holds 4K leaves, FORMAT_TOP the root table
 *   FORMAT_SHIFT(level)       log 2 of the bytes that one entry covers
 *   FORMAT_ENTRIES(level)     entries of a table
 *   FORMAT_LARGE              bit n: level n may hold large leaves, if the CPU has them
 *   FORMAT_WIDE               1: entries are wider than a machine word
 *   FORMAT_TOP_FIXED          1: the root's entries are registers of the CPU (PAE), so they are
 *                             filled when it is made and never change
 *   ENTRY_NX                  the bit that forbids execution, 0 where there is none
 *   ENTRY_ADDRESS             the bits of a physical address
 *   ENTRY_HIDE                what a not-present entry's address is inverted with
 *   ENTRY_SLOT_SHIFT, ENTRY_SLOT_BITS, ENTRY_GENERATION_BITS   fields of a swap entry
 *
 * Present leaf (bits 0 to 8 by the manual: SDM 3A 4.3 to 4.5; bit 9 is software's):
 *
 *    63   51 (31)               12   9   8 7 6 5  4   3   2 1 0
 *   [NX|0][  physical address   |  |NOX|G L D A PCD PWT US RW P]
 *
 * L is PS at higher levels, and PAT at level 0; higher levels have PAT in bit 12.
 *
 * Not present, not zero:
 *   swap entry   bits 1-2 the kind (1 to 3), from bit 3 the generation, then the slot
 *   hidden leaf  bits 1-2 zero: a leaf with no rights at all, otherwise as when present
 *   paused leaf  a hidden one with bit 10: it has its rights for everybody but the CPU, for the
 *                moment that a change of the leaf's size takes; bit 11: it is writable
 * Where there is room, the address bits of both are inverted, so that a CPU which speculates on
 * them although P is 0 (L1 terminal fault) looks above all memory.
 */
#include <neomm/root.h>

#define FORMAT_TOP (FORMAT_LEVELS - 1u)

#define ENTRY_PRESENT  ((entry_t)1 << 0)
#define ENTRY_WRITE    ((entry_t)1 << 1)
#define ENTRY_USER     ((entry_t)1 << 2)
#define ENTRY_THROUGH  ((entry_t)1 << 3)
#define ENTRY_UNCACHED ((entry_t)1 << 4)
#define ENTRY_ACCESSED ((entry_t)1 << 5)
#define ENTRY_DIRTY    ((entry_t)1 << 6)
#define ENTRY_LARGE    ((entry_t)1 << 7)
#define ENTRY_GLOBAL   ((entry_t)1 << 8)
/* The third bit of a leaf's index into the PAT lies where a leaf of level 0 has no PS, and a large
 * one no address. */
#define ENTRY_PAT_SMALL ((entry_t)1 << 7)
#define ENTRY_PAT_LARGE ((entry_t)1 << 12)
/* EXEC was not asked for: says so where NX is missing, too. */
#define ENTRY_NOEXEC ((entry_t)1 << 9)

#define ENTRY_PAUSED       ((entry_t)1 << 10)
#define ENTRY_PAUSED_WRITE ((entry_t)1 << 11)

#define ENTRY_KIND_SHIFT       1
#define ENTRY_KIND_MASK        ((entry_t)3 << ENTRY_KIND_SHIFT)
#define ENTRY_GENERATION_SHIFT 3
#define ENTRY_FIELD(bits)      ((entry_t)(((uint64_t)1 << (bits)) - 1))

static inline bool entry_is_present(entry_t entry)
{
    return (entry & ENTRY_PRESENT) != 0;
}

static inline bool entry_is_table(unsigned level, entry_t entry)
{
    return level > 0 && (entry & (ENTRY_PRESENT | ENTRY_LARGE)) == ENTRY_PRESENT;
}

static inline bool entry_is_swap(entry_t entry)
{
    return !entry_is_present(entry) && (entry & ENTRY_KIND_MASK) != 0;
}

/* Will no MMU write to this entry? They set A where it is clear, and D where it is clear and the
 * leaf is writable (SDM 3A 4.8); what is not present they leave alone. */
static inline bool entry_is_still(unsigned level, entry_t entry)
{
    if (!entry_is_present(entry))
        return true;
    return (entry & ENTRY_ACCESSED) != 0 &&
           (entry_is_table(level, entry) || (entry & (ENTRY_DIRTY | ENTRY_WRITE)) != ENTRY_WRITE);
}

/* A leaf, visible to the CPU or hidden. */
static inline bool entry_is_leaf(unsigned level, entry_t entry)
{
    return entry != 0 && !entry_is_table(level, entry) && !entry_is_swap(entry);
}

static inline neomm_frame_t entry_table_frame(entry_t entry)
{
    return neomm_paddr_frame((neomm_paddr_t)(entry & ENTRY_ADDRESS));
}

/* An entry of a table at `level` that points to the table below. Accessed from the start: saves
 * the CPU a locked update. The root entries of PAE have no rights and no A bit (SDM 3A 4.4.1). */
static inline entry_t entry_make_table(unsigned level, neomm_frame_t frame, bool user)
{
    entry_t entry = (entry_t)neomm_frame_paddr(frame) | ENTRY_PRESENT;
    if (FORMAT_TOP_FIXED && level == FORMAT_TOP)
        return entry;
    return entry | ENTRY_WRITE | ENTRY_ACCESSED | (user ? ENTRY_USER : 0);
}

/* `entry`, a leaf of either sort, with other rights. `nx` is ENTRY_NX, or 0 when the CPU does
 * not have it. */
static inline entry_t entry_with_rights(entry_t entry, neomm_prot_t prot, bool user, entry_t nx)
{
    if (!entry_is_present(entry))
        entry ^= ENTRY_HIDE;
    entry &= ~(ENTRY_PRESENT | ENTRY_WRITE | ENTRY_USER | ENTRY_NOEXEC | ENTRY_NX);
    if (prot == NEOMM_PROT_NONE)
        return (entry | ENTRY_NOEXEC) ^ ENTRY_HIDE;
    return entry | ENTRY_PRESENT | (user ? ENTRY_USER : 0) |
           (prot & NEOMM_PROT_WRITE ? ENTRY_WRITE : 0) |
           (prot & NEOMM_PROT_EXEC ? 0 : ENTRY_NOEXEC | nx);
}

static inline entry_t entry_pat_bit(unsigned level)
{
    return level > 0 ? ENTRY_PAT_LARGE : ENTRY_PAT_SMALL;
}

/* The cache types are the first entries of the PAT, in the order of enum neomm_cache. */
static inline entry_t entry_make_leaf(unsigned level, neomm_paddr_t paddr, neomm_prot_t prot,
                                      enum neomm_cache cache, bool user, entry_t nx)
{
    entry_t entry = (entry_t)paddr | ENTRY_PRESENT | (level > 0 ? ENTRY_LARGE : 0) |
                    (user ? 0 : ENTRY_GLOBAL) | ((unsigned)cache & 1u ? ENTRY_THROUGH : 0) |
                    ((unsigned)cache & 2u ? ENTRY_UNCACHED : 0) |
                    ((unsigned)cache & 4u ? entry_pat_bit(level) : 0);
    return entry_with_rights(entry, prot, user, nx);
}

static inline bool entry_swap_fits(const struct neomm_swap_entry *swap)
{
    return swap->kind >= 1 && swap->kind <= 3 && ((uint64_t)swap->slot >> ENTRY_SLOT_BITS) == 0 &&
           ((uint32_t)swap->generation >> ENTRY_GENERATION_BITS) == 0;
}

#define ENTRY_SLOT_HIDE (ENTRY_HIDE ? ENTRY_FIELD(ENTRY_SLOT_BITS) << ENTRY_SLOT_SHIFT : (entry_t)0)

static inline entry_t entry_make_swap(const struct neomm_swap_entry *swap)
{
    entry_t entry = (entry_t)((entry_t)swap->kind << ENTRY_KIND_SHIFT) |
                    (entry_t)((entry_t)swap->generation << ENTRY_GENERATION_SHIFT) |
                    (entry_t)((entry_t)swap->slot << ENTRY_SLOT_SHIFT);
    return entry ^ ENTRY_SLOT_HIDE;
}

static inline struct neomm_swap_entry entry_swap(entry_t entry)
{
    struct neomm_swap_entry swap;
    entry ^= ENTRY_SLOT_HIDE;
    swap.slot = (uint32_t)(entry >> ENTRY_SLOT_SHIFT & ENTRY_FIELD(ENTRY_SLOT_BITS));
    swap.generation =
        (uint16_t)(entry >> ENTRY_GENERATION_SHIFT & ENTRY_FIELD(ENTRY_GENERATION_BITS));
    swap.kind = (uint16_t)((entry & ENTRY_KIND_MASK) >> ENTRY_KIND_SHIFT);
    return swap;
}

/* `leaf`, made for address 0, with this address. */
static inline entry_t entry_at_paddr(entry_t leaf, neomm_paddr_t paddr)
{
    return leaf ^ (entry_t)paddr;
}

/* A leaf of level 0, as a large one. */
static inline entry_t entry_enlarged(entry_t leaf)
{
    return leaf | ENTRY_LARGE | (leaf & ENTRY_PAT_SMALL ? ENTRY_PAT_LARGE : 0);
}

static inline enum neomm_cache entry_cache(unsigned level, entry_t entry)
{
    if (!entry_is_present(entry))
        entry ^= ENTRY_HIDE;
    return (enum neomm_cache)((entry & (ENTRY_THROUGH | ENTRY_UNCACHED)) / ENTRY_THROUGH +
                              (entry & entry_pat_bit(level) ? 4 : 0));
}

/* The address of the first byte that a leaf covers. */
static inline neomm_paddr_t entry_leaf_paddr(unsigned level, entry_t entry)
{
    if (!entry_is_present(entry))
        entry ^= ENTRY_HIDE;
    return (neomm_paddr_t)(entry & ENTRY_ADDRESS & ~(level > 0 ? ENTRY_PAT_LARGE : 0));
}

static inline neomm_prot_t entry_rights(entry_t entry)
{
    entry_t write = entry_is_present(entry) ? ENTRY_WRITE : ENTRY_PAUSED_WRITE;
    if (!entry_is_present(entry) && !(entry & ENTRY_PAUSED))
        return NEOMM_PROT_NONE;
    return NEOMM_PROT_READ | (entry & write ? NEOMM_PROT_WRITE : 0) |
           (entry & ENTRY_NOEXEC ? 0 : NEOMM_PROT_EXEC);
}

/* A present leaf, out of the CPU's sight for a moment. NX goes on saying what NOEXEC says. */
static inline entry_t entry_pause(entry_t entry)
{
    entry_t write = entry & ENTRY_WRITE ? ENTRY_PAUSED_WRITE : 0;
    return ((entry & ~(ENTRY_PRESENT | ENTRY_WRITE | ENTRY_USER)) | ENTRY_PAUSED | write) ^
           ENTRY_HIDE;
}

/* The leaf of the next smaller size that covers part `index` of a large leaf at `level`. */
static inline entry_t entry_part(unsigned level, entry_t entry, unsigned index)
{
    entry_t hide = entry_is_present(entry) ? 0 : ENTRY_HIDE;
    entry ^= hide;
    if (level == 1) {
        bool pat = (entry & ENTRY_PAT_LARGE) != 0;
        entry = (entry & ~(ENTRY_LARGE | ENTRY_PAT_LARGE)) | (pat ? ENTRY_PAT_SMALL : 0);
    }
    return (entry + ((entry_t)index << FORMAT_SHIFT(level - 1))) ^ hide;
}

/* What a change of rights does to a present leaf that stays present. */
struct entry_change {
    entry_t clear, set;
};

static inline struct entry_change entry_change_to(neomm_prot_t prot, bool user, entry_t nx)
{
    return (struct entry_change){ENTRY_WRITE | ENTRY_NOEXEC | ENTRY_NX,
                                 entry_with_rights(ENTRY_PRESENT, prot, user, nx)};
}

static inline entry_t entry_changed(entry_t entry, struct entry_change change)
{
    return (entry & ~change.clear) | change.set;
}

/* Would a CPU that goes on using `before` do what `after` forbids? Leaves of the same place. */
static inline bool entry_narrows(entry_t before, entry_t after)
{
    if (!entry_is_present(before))
        return false;
    return !entry_is_present(after) || (before & ~after & ENTRY_WRITE) != 0 ||
           (after & ~before & ENTRY_NX) != 0;
}
