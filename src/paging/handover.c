/* Boot hand-over: what is asked of a loader's tables; the format's engine reads them.
 * SPDX-License-Identifier: MIT */
#include "paging/tables.h"

#include "base/bits.h"

#include <neomm/cpu.h>

#define CPUID_EDX_PSE         3
#define CPUID_EDX_PAT         16
#define CPUID_EXTENDED_EDX_NX 20
#define CPUID_EXTENDED_EDX_1G 26
#define PAT_AT_RESET          0x0007040600070406u /* SDM 3A 11.12.4 */
#define PHYSICAL_BITS_OLD     36u                 /* of CPUs that do not say */
#define PHYSICAL_BITS_FEWEST  32u

/* CPUID leaves; zero where the CPU does not know them. */
struct features {
    uint32_t basic[4], extended[4], sizes[4];
};

static void read_features(struct features *features)
{
    uint32_t top[4];
    memset(features, 0, sizeof(*features));
    neomm_cpu_cpuid(1, 0, features->basic);
    neomm_cpu_cpuid(0x80000000u, 0, top);
    if (top[0] >= 0x80000001u)
        neomm_cpu_cpuid(0x80000001u, 0, features->extended);
    if (top[0] >= 0x80000008u)
        neomm_cpu_cpuid(0x80000008u, 0, features->sizes);
}

static enum neomm_format format_of(uintptr_t cr4)
{
    if (!(cr4 & NEOMM_CR4_PAE))
        return NEOMM_FORMAT_2LEVEL;
    if (sizeof(uintptr_t) < 8)
        return NEOMM_FORMAT_PAE;
    return cr4 & NEOMM_CR4_LA57 ? NEOMM_FORMAT_5LEVEL : NEOMM_FORMAT_4LEVEL;
}

static uint32_t physical_bits(enum neomm_format format, const struct features *features)
{
    if (format == NEOMM_FORMAT_2LEVEL)
        return PHYSICAL_BITS_FEWEST;
    return features->sizes[0] & 0xff ? features->sizes[0] & 0xff : PHYSICAL_BITS_OLD;
}

static uint32_t leaf_levels(enum neomm_format format, uintptr_t cr4,
                            const struct features *features)
{
    uint32_t levels = 1;
    if (format != NEOMM_FORMAT_2LEVEL || (cr4 & NEOMM_CR4_PSE))
        levels |= 2u;
    if (features->extended[3] >> CPUID_EXTENDED_EDX_1G & 1u)
        levels |= 4u;
    return levels;
}

neomm_status neomm_handover_begin(struct neomm_handover *handover, neomm_table_pointer_fn *pointer,
                                  void *context)
{
    struct features features;
    uintptr_t cr4 = neomm_cpu_read_cr4(), cr3 = neomm_cpu_read_cr3();
    if (!(neomm_cpu_read_cr0() & NEOMM_CR0_PG))
        return NEOMM_E_UNSUPPORTED;
    read_features(&features);
    memset(handover, 0, sizeof(*handover));
    handover->format = format_of(cr4);
    /* The four entries of PAE lie on any multiple of their size. */
    uintptr_t inside = handover->format == NEOMM_FORMAT_PAE ? 31 : NEOMM_PAGE_SIZE - 1;
    handover->top = (neomm_paddr_t)(cr3 & ~inside);
    handover->physical_bits = physical_bits(handover->format, &features);
    handover->leaf_levels = leaf_levels(handover->format, cr4, &features);
    if (features.extended[3] >> CPUID_EXTENDED_EDX_NX & 1u)
        handover->nx = (neomm_cpu_read_msr(NEOMM_MSR_EFER) & NEOMM_EFER_NXE) != 0;
    handover->pat = PAT_AT_RESET;
    if (features.basic[3] >> CPUID_EDX_PAT & 1u)
        handover->pat = neomm_cpu_read_msr(NEOMM_MSR_PAT);
    handover->pointer = pointer;
    handover->context = context;
    return NEOMM_OK;
}

bool neomm__handover_type(const struct neomm_handover *handover, unsigned index,
                          enum neomm_cache *cache)
{
    static const uint8_t type[] = {NEOMM_CACHE_UC, NEOMM_CACHE_WC,      0xff,
                                   0xff,           NEOMM_CACHE_WT,      0xff,
                                   NEOMM_CACHE_WB, NEOMM_CACHE_UC_MINUS};
    uint8_t found = type[handover->pat >> (8 * index) & 7];
    *cache = (enum neomm_cache)found;
    return found != 0xff;
}

/* ---- reading ---- */

/* Addresses of one half: all bits above those that the tables look at are as the highest of these.
 */
static bool is_canonical(const struct neomm__engine *engine, neomm_vaddr_t vaddr)
{
    if (engine->levels < 4)
        return true;
    neomm_vaddr_t half = engine->top_span * 256;
    return vaddr < half || vaddr >= (neomm_vaddr_t)0 - half;
}

static neomm_status check_range(const struct neomm__engine *engine, neomm_vaddr_t vaddr,
                                size_t size)
{
    neomm_vaddr_t last = vaddr + (size - 1);
    if (!engine)
        return NEOMM_E_UNSUPPORTED;
    if (size == 0 || last < vaddr || !is_canonical(engine, vaddr) || !is_canonical(engine, last) ||
        (engine->levels >= 4 && (vaddr ^ last) >> (8 * sizeof(vaddr) - 1) != 0))
        return NEOMM_E_RANGE;
    return NEOMM_OK;
}

neomm_status neomm_handover_walk(struct neomm_handover *handover, neomm_vaddr_t vaddr, size_t size,
                                 neomm_leaf_fn *visit, void *context)
{
    const struct neomm__engine *engine = neomm__engine_of(handover->format);
    neomm_status status = check_range(engine, vaddr, size);
    if (status != NEOMM_OK)
        return status;
    return engine->loader_walk(handover, vaddr, vaddr + (size - 1), visit, context);
}

/* ---- the direct map ---- */

/* The last address of it that is to be mapped. */
static neomm_vaddr_t direct_last(const struct neomm_area *direct, neomm_paddr_t end)
{
    if (end == 0 || end > direct->size)
        end = direct->size;
    return direct->base + (neomm_vaddr_t)(end - 1);
}

uint32_t neomm_handover_direct_frames(const struct neomm_handover *handover,
                                      const struct neomm_layout *layout, neomm_paddr_t end)
{
    const struct neomm__engine *engine = neomm__engine_of(handover->format);
    if (!engine)
        return 0;
    return engine->loader_frames(handover, &layout->direct, direct_last(&layout->direct, end));
}

/* The load is for PAE, whose top entries are registers; what was not present is cached nowhere. */
neomm_status neomm_handover_direct(struct neomm_handover *handover,
                                   const struct neomm_layout *layout, neomm_paddr_t end,
                                   neomm_paddr_t tables, uint32_t frames)
{
    const struct neomm__engine *engine = neomm__engine_of(handover->format);
    if (!engine || handover->format != layout->format)
        return NEOMM_E_UNSUPPORTED;
    neomm_status status = engine->loader_direct(handover, &layout->direct,
                                                direct_last(&layout->direct, end), tables, frames);
    neomm_cpu_write_cr3(neomm_cpu_read_cr3());
    return status;
}

/* ---- adoption ---- */

struct adoption {
    struct neomm *root;
    neomm_vaddr_t first, last;
    neomm_prot_t rights;
    bool maps; /* or only looks */
    neomm_status status;
};

static void adopt(void *context, neomm_vaddr_t vaddr, const struct neomm_mapping *leaf)
{
    struct adoption *a = context;
    neomm_prot_t prot = leaf->prot & a->rights;
    neomm_vaddr_t first = vaddr > a->first ? vaddr : a->first, last = vaddr + (leaf->size - 1);
    last = last < a->last ? last : a->last;
    if (a->status != NEOMM_OK)
        return;
    if ((prot & NEOMM_PROT_WRITE) && (prot & NEOMM_PROT_EXEC))
        a->status = NEOMM_E_ACCESS;
    else if (a->maps)
        a->status = neomm_paging_map(a->root, &a->root->paging->kernel, first,
                                     leaf->paddr + (first - vaddr), (size_t)(last - first) + 1,
                                     prot, leaf->cache, 0);
}

static neomm_status adopt_pass(struct adoption *a, struct neomm_handover *handover, bool maps)
{
    a->maps = maps;
    neomm_status status =
        neomm_handover_walk(handover, a->first, (size_t)(a->last - a->first) + 1, adopt, a);
    return status == NEOMM_OK ? a->status : status;
}

neomm_status neomm_handover_adopt(struct neomm *root, struct neomm_handover *handover,
                                  neomm_vaddr_t vaddr, size_t size, neomm_prot_t rights)
{
    struct neomm__paging *paging = root->paging;
    struct adoption adoption = {root, vaddr, vaddr + (size - 1), rights, false, NEOMM_OK};
    if (!paging)
        return NEOMM_E_NOENT;
    neomm_status status = neomm__paging_check_kernel(root, vaddr, size);
    if (status != NEOMM_OK)
        return status;
    if (neomm__paging_occupied(root, &paging->kernel, vaddr, adoption.last))
        return NEOMM_E_EXISTS;
    status = adopt_pass(&adoption, handover, false);
    if (status != NEOMM_OK)
        return status;
    status = adopt_pass(&adoption, handover, true);
    if (status != NEOMM_OK)
        (void)neomm_paging_unmap(root, &paging->kernel, vaddr, size, NULL, NULL, NULL);
    return status;
}

/* ---- the end ---- */

neomm_status neomm_handover_end(struct neomm *root, const struct neomm_handover *handover,
                                const struct neomm_cpumask *started)
{
    if (!root->paging)
        return NEOMM_E_NOENT;
    if ((neomm_paddr_t)(neomm_cpu_read_cr3() & ~(uintptr_t)31) == handover->top)
        return NEOMM_E_BUSY;
    for (unsigned i = 0; i < NEOMM_CPU_WORDS; i++)
        if (started->word[i] & ~neomm__load_acquire(&root->paging->online.word[i]))
            return NEOMM_E_BUSY;
    return NEOMM_OK;
}
