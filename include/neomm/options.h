/* Compile-time options: every one has a default here, may be set with -D, and is checked.
 * SPDX-License-Identifier: MIT */
#ifndef NEOMM_OPTIONS_H
#define NEOMM_OPTIONS_H

/* 1: the instrumented flavour, whose hooks (src/base/hook.h) call neomm_hook_*, which the
 * program supplies. 0: the production flavour, whose hooks compile to nothing. */
#ifndef NEOMM_INSTRUMENTED
#define NEOMM_INSTRUMENTED 0
#endif

/* The most CPUs one library serves. A multiple of 32. */
#ifndef NEOMM_CPU_MAX
#define NEOMM_CPU_MAX 64
#endif
#if NEOMM_CPU_MAX < 32 || NEOMM_CPU_MAX > 1024 || NEOMM_CPU_MAX % 32 != 0
#error "NEOMM_CPU_MAX must be a multiple of 32 from 32 to 1024"
#endif

/* The most nodes (places of memory at different distances from the CPUs). */
#ifndef NEOMM_NODE_MAX
#define NEOMM_NODE_MAX 8
#endif
#if NEOMM_NODE_MAX < 1 || NEOMM_NODE_MAX > 64
#error "NEOMM_NODE_MAX must be 1 to 64"
#endif

/* The highest log level that is compiled in (enum neomm_log_level). */
#ifndef NEOMM_LOG_MAX
#define NEOMM_LOG_MAX 3
#endif
#if NEOMM_LOG_MAX < 0 || NEOMM_LOG_MAX > 3
#error "NEOMM_LOG_MAX must be 0 (errors) to 3 (debug)"
#endif

#endif
