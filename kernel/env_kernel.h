/* The memory of the tests in a kernel: physical addresses that the kernel itself does not use.
 * SPDX-License-Identifier: MIT */
#ifndef KERNEL_ENV_KERNEL_H
#define KERNEL_ENV_KERNEL_H

#define ENV_MEMORY      ((size_t)4 << 20)
#define ENV_MEMORY_SIZE ((size_t)96 << 20)

#endif
