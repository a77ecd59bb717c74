/* Failures on purpose in the instrumented flavour of the kernel.
 * SPDX-License-Identifier: MIT */
#ifndef KERNEL_HOOKS_H
#define KERNEL_HOOKS_H

#include <neomm/hook.h>

/* The nth (from 1) pass through a fault point from now on fails, `forever`: and all after it.
 * 0: none. */
void hooks_fault_plan(uint64_t n, bool forever);
/* Passes since then. */
uint64_t hooks_fault_count(void);

#endif
