/* QEMU with a guest that does the cases (guest.c), and its RAM.
 * SPDX-License-Identifier: MIT */
#ifndef TEST_MMU_QEMU_H
#define TEST_MMU_QEMU_H

#include "mmu_cases.h"

struct mmu_qemu {
    int fd;
    uint8_t *ram;
    struct mmu_case *cases;
    struct mmu_result *results;
};

/* RAM with pages to be reached in it, and room for CHANNEL_CASES cases. False: the host has no
 * memory for it. */
bool mmu_qemu_open(struct mmu_qemu *qemu);
void mmu_qemu_close(struct mmu_qemu *qemu);
/* The guest's RAM; NULL in the hole and behind. */
void *mmu_qemu_ram(const struct mmu_qemu *qemu, uint64_t paddr);
/* Lets the guest do the first `count` cases. NULL, or what went wrong. */
const char *mmu_qemu_run(struct mmu_qemu *qemu, const struct mmu_cpu *cpu, uint32_t count);

#endif
