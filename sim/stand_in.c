/* Stand-ins that let the machine link while the MMU is not there.
 * SPDX-License-Identifier: MIT */
#include "machine.h"
#define W __attribute__((weak))
W bool sim_mmu_create(struct sim *sim)
{
    (void)sim;
    return true;
}
W void sim_mmu_destroy(struct sim *sim)
{
    (void)sim;
}
W void sim_mmu_reset(struct sim *sim)
{
    (void)sim;
}
W void sim_tlb_invlpg(struct sim_cpu *cpu, neomm_vaddr_t vaddr)
{
    (void)cpu;
    (void)vaddr;
}
W void sim_tlb_cr0_written(struct sim_cpu *cpu, uintptr_t before)
{
    (void)cpu;
    (void)before;
}
W void sim_tlb_cr3_written(struct sim_cpu *cpu, uintptr_t before)
{
    (void)cpu;
    (void)before;
}
W void sim_tlb_cr4_written(struct sim_cpu *cpu, uintptr_t before)
{
    (void)cpu;
    (void)before;
}
W void sim_tlb_efer_written(struct sim_cpu *cpu, uint64_t before)
{
    (void)cpu;
    (void)before;
}
W void sim_tlb_check_frames(struct sim *sim, neomm_frame_t first, uint32_t count, bool freed)
{
    (void)sim;
    (void)first;
    (void)count;
    (void)freed;
}
