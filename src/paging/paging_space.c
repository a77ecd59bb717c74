/* Tables of spaces, and which of them a CPU has loaded.
 * SPDX-License-Identifier: MIT */
#include "paging/pcid.h"
#include "paging/tables.h"

#include <neomm/cpu.h>

struct neomm_tables *neomm_paging_kernel(struct neomm *root)
{
    return root->paging ? &root->paging->kernel : NULL;
}

neomm_status neomm_paging_create(struct neomm *root, struct neomm_tables *tables, uint32_t owner)
{
    struct neomm__paging *paging = root->paging;
    if (!paging)
        return NEOMM_E_NOENT;
    memset(tables, 0, sizeof(*tables));
    tables->owner = owner;
    tables->serial = neomm__fetch_add(&paging->serials, 1) + 1;
    neomm_status status = paging->engine->create(root, tables);
    if (status != NEOMM_OK)
        return status;
    neomm_irq_t irq = neomm__lock(&paging->lock);
    neomm__frame_list_push_tail(&root->frames, &paging->roots, tables->top);
    neomm__unlock(&paging->lock, irq);
    return NEOMM_OK;
}

/* The exchange of entries leaves tables that are empty; they are no reason to refuse. */
neomm_status neomm_paging_destroy(struct neomm *root, struct neomm_tables *tables)
{
    struct neomm__paging *paging = root->paging;
    if (!paging || neomm_frame_is_nil(tables->top) || tables == &paging->kernel)
        return NEOMM_E_INVALID;
    if (!neomm__cpumask_is_empty(&tables->cpus))
        return NEOMM_E_BUSY;
    if (neomm__paging_occupied(root, tables, 0, root->layout.user_limit - 1))
        return NEOMM_E_BUSY;
    neomm_irq_t irq = neomm__lock(&paging->lock);
    neomm__frame_list_remove(&root->frames, &paging->roots, tables->top);
    neomm__unlock(&paging->lock, irq);
    paging->engine->destroy(root, tables);
    return NEOMM_OK;
}

static uintptr_t cr3_for(const struct neomm *root, struct neomm__cpu_state *cpu,
                         const struct neomm_tables *tables)
{
    uintptr_t top = (uintptr_t)neomm_frame_paddr(tables->top);
    if (!root->paging->pcids)
        return top;
    return top | neomm__pcid_load(cpu, tables, neomm__tables_are_kernel(root, tables));
}

/* Loads `tables` (NULL: nothing is loaded, the CPU is only forgotten). Interrupts are masked.
 * flush.c says why the order is what it is. */
static void switch_to(struct neomm *root, struct neomm_tables *tables)
{
    uint32_t self = neomm_port_cpu()->index;
    struct neomm__cpu_state *cpu = &root->cpu[self];
    struct neomm_tables *before = cpu->tables;
    if (tables) {
        neomm__cpumask_set(&tables->cpus, self);
        if (!NEOMM__FLUSH_SKIPPED(NEOMM_FLUSH_SITE_SWITCH))
            neomm_cpu_write_cr3(cr3_for(root, cpu, tables));
    }
    cpu->tables = tables;
    if (before && before != tables)
        neomm__cpumask_clear(&before->cpus, self);
}

void neomm_paging_activate(struct neomm *root, struct neomm_tables *tables)
{
    neomm_irq_t irq = neomm_port_irq_save();
    if (neomm__cpu(root)->tables != tables)
        switch_to(root, tables);
    neomm_port_irq_restore(irq);
}

/* ---- the CPU's features ---- */

#define CPUID_PSE       3
#define CPUID_PGE       13
#define CPUID7_EBX_SMEP 7
#define CPUID7_EBX_SMAP 20
#define CPUID7_ECX_UMIP 2

/* Entry n of the PAT, in byte n: write-back, write-through, UC-, UC, write-combining, and the three
 * again. All but write-combining is what the CPU starts with (SDM 3A 11.12.4), where that is
 * write-back: so a CPU that takes no notice of the third bit, as some old ones do, is safe, since
 * the MTRRs say that a device's memory is uncached, and that overrides write-back. */
#define PAT_VALUE 0x0007040100070406u

static uintptr_t if_bit(uint32_t word, unsigned bit, uintptr_t value)
{
    return word >> bit & 1u ? value : 0;
}

/* CR4 bits that this CPU has and the kernel's tables want. */
static uintptr_t wanted_cr4(const struct neomm__paging *paging, const uint32_t basic[4])
{
    uint32_t top[4], extended[4] = {0, 0, 0, 0};
    neomm_cpu_cpuid(0, 0, top);
    if (top[0] >= 7)
        neomm_cpu_cpuid(7, 0, extended);
    return (paging->pcids ? NEOMM_CR4_PCIDE : 0) | if_bit(basic[3], CPUID_PGE, NEOMM_CR4_PGE) |
           if_bit(basic[3], CPUID_PSE, NEOMM_CR4_PSE) |
           if_bit(extended[1], CPUID7_EBX_SMEP, NEOMM_CR4_SMEP) |
           if_bit(extended[1], CPUID7_EBX_SMAP, NEOMM_CR4_SMAP) |
           if_bit(extended[2], CPUID7_ECX_UMIP, NEOMM_CR4_UMIP);
}

/* Paging is on: its mode cannot be changed from here, so it must be the format's. */
static bool mode_fits(enum neomm_format format)
{
    uintptr_t cr4 = neomm_cpu_read_cr4();
    bool pae = (cr4 & NEOMM_CR4_PAE) != 0, la57 = (cr4 & NEOMM_CR4_LA57) != 0;
    return pae == (format != NEOMM_FORMAT_2LEVEL) && la57 == (format == NEOMM_FORMAT_5LEVEL);
}

neomm_status neomm_paging_cpu_init(struct neomm *root)
{
    struct neomm__paging *paging = root->paging;
    uint32_t basic[4];
    if (!paging)
        return NEOMM_E_NOENT;
    if (!mode_fits(root->layout.format))
        return NEOMM_E_UNSUPPORTED;
    neomm_irq_t irq = neomm_port_irq_save();
    neomm_cpu_cpuid(1, 0, basic);
    uintptr_t cr4 = neomm_cpu_read_cr4(), wanted = wanted_cr4(paging, basic);
    if (paging->nx)
        neomm_cpu_write_msr(NEOMM_MSR_EFER, neomm_cpu_read_msr(NEOMM_MSR_EFER) | NEOMM_EFER_NXE);
    if (paging->pat)
        neomm_cpu_write_msr(NEOMM_MSR_PAT, PAT_VALUE);
    /* Without PGE first: global translations of the loader's tables go. */
    neomm_cpu_write_cr4((cr4 & ~NEOMM_CR4_PGE) | (wanted & NEOMM_CR4_PSE));
    neomm__cpumask_set(&paging->online, neomm_port_cpu()->index);
    switch_to(root, &paging->kernel);
    neomm_cpu_write_cr4(cr4 | wanted);
    neomm_cpu_write_cr0(neomm_cpu_read_cr0() | NEOMM_CR0_WP);
    neomm_port_irq_restore(irq);
    return NEOMM_OK;
}

void neomm_paging_cpu_fini(struct neomm *root)
{
    neomm_irq_t irq = neomm_port_irq_save();
    switch_to(root, NULL);
    neomm__cpumask_clear(&root->paging->online, neomm_port_cpu()->index);
    neomm_port_irq_restore(irq);
}
