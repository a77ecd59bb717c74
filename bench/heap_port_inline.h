/* The inline part of the heap benchmarks' port: a thread is a CPU, and knows its structure.
 * SPDX-License-Identifier: MIT */
#ifndef NEOMM_BENCH_HEAP_PORT_INLINE_H
#define NEOMM_BENCH_HEAP_PORT_INLINE_H

/* As a kernel's per-CPU pointer it is found at a fixed offset from a segment register. */
extern __thread struct neomm_cpu *neomm_bench_cpu
    __attribute__((tls_model("initial-exec"), visibility("hidden")));

static inline struct neomm_cpu *neomm_port_cpu(void)
{
    return neomm_bench_cpu;
}

static inline struct neomm_cpu *neomm_port_pin(void)
{
    return neomm_bench_cpu;
}

static inline void neomm_port_unpin(void)
{
}

#endif
