/* Slots: addresses for frames above the direct map, a few for each CPU.
 * SPDX-License-Identifier: MIT
 *
 * A slot's tables are there from the start, and only its CPU uses it, so a slot is taken and
 * given back without a lock: last mapped, first unmapped, also by an interrupt in between.
 */
#include "base/bits.h"
#include "flush.h"
#include "tables.h"

static neomm_vaddr_t slot_vaddr(const struct neomm *root, uint32_t cpu, unsigned slot)
{
    return root->layout.slots.base + ((size_t)cpu * NEOMM_SLOTS_PER_CPU + slot) * NEOMM_PAGE_SIZE;
}

static void *map(struct neomm *root, neomm_frame_t frame)
{
    neomm_irq_t irq = neomm_port_irq_save();
    uint32_t self = neomm_port_cpu()->index;
    struct neomm__cpu_state *cpu = &root->cpu[self];
    unsigned slot = 0;
    void *pointer = NULL;
    while (slot < NEOMM_SLOTS_PER_CPU && (cpu->slots_used >> slot & 1u) != 0)
        slot++;
    if (slot < NEOMM_SLOTS_PER_CPU && !NEOMM__FAULT(PAGING_SLOT)) {
        neomm_vaddr_t vaddr = slot_vaddr(root, self, slot);
        cpu->slots_used |= 1u << slot;
        root->paging->engine->set_slot(root, vaddr, frame);
        pointer = (void *)(vaddr + (neomm_vaddr_t)root->layout.slots.delta);
    }
    neomm_port_irq_restore(irq);
    return pointer;
}

static void unmap(struct neomm *root, void *pointer)
{
    neomm_irq_t irq = neomm_port_irq_save();
    uint32_t self = neomm_port_cpu()->index;
    neomm_vaddr_t vaddr = NEOMM__ALIGN_DOWN(
        (neomm_vaddr_t)pointer - (neomm_vaddr_t)root->layout.slots.delta, NEOMM_PAGE_SIZE);
    size_t slot = (vaddr - slot_vaddr(root, self, 0)) / NEOMM_PAGE_SIZE;
    NEOMM__ASSERT(slot < NEOMM_SLOTS_PER_CPU && (root->cpu[self].slots_used >> slot & 1u) != 0);
    root->paging->engine->set_slot(root, vaddr, neomm_frame(0));
    neomm__flush_here(root, vaddr, NEOMM_FLUSH_SITE_SLOT);
    NEOMM__SETTLED(root->paging->kernel.top, NEOMM_FLUSH_SITE_SLOT);
    root->cpu[self].slots_used &= ~(1u << slot);
    neomm_port_irq_restore(irq);
}

void neomm__slots_init(struct neomm *root)
{
    root->slots.map = map;
    root->slots.unmap = unmap;
}

void neomm__slots_fini(struct neomm *root)
{
    root->slots.map = NULL;
    root->slots.unmap = NULL;
}
