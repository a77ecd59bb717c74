/* The benchmark of address spaces that has two threads.
 * SPDX-License-Identifier: MIT */
#ifndef NEOMM_BENCH_BENCH_VMM_H
#define NEOMM_BENCH_BENCH_VMM_H

#include "bench.h"

/* First touches by two threads of one space, times the speed of one thread. */
double bench_faults_speedup(struct bench_machine *machine);

#endif
