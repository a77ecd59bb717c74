/* The two flavours: hooks that call the checking program, or nothing at all.
 * SPDX-License-Identifier: MIT */
#ifndef NEOMM_BASE_HOOK_H
#define NEOMM_BASE_HOOK_H

#include <neomm/hook.h>

#if NEOMM_INSTRUMENTED

/* True: this attempt at SITE is to fail. */
#define NEOMM__FAULT(SITE) neomm_hook_fault(NEOMM_FAULT_SITE_##SITE)
/* True: leave out the invalidation of this site. */
#define NEOMM__FLUSH_SKIPPED(site)                neomm_hook_flush_skipped(site)
#define NEOMM__SETTLED(top, site)                 neomm_hook_settled(top, site)
#define NEOMM__ENTRY_STORED(entry, before, after) neomm_hook_entry_stored(entry, before, after)
#define NEOMM__FRAMES_ALLOCATED(frame, count)     neomm_hook_frames_allocated(frame, count)
#define NEOMM__FRAMES_FREED(frame, count)         neomm_hook_frames_freed(frame, count)
#define NEOMM__OBJECT_FREED(object, size)         neomm_hook_object_freed(object, size)
#define NEOMM__OBJECT_TAKEN(object, size)         neomm_hook_object_taken(object, size)
#define NEOMM__SLEEPS(idle)                       neomm_hook_idle(idle)
#define NEOMM__YIELD()                            neomm_hook_yield()
#define NEOMM__SPIN()                             neomm_hook_spin()
#define NEOMM__STORE_LATE(word, value)            neomm_hook_store_late(word, value)

#else

#define NEOMM__FAULT(SITE)                        false
#define NEOMM__FLUSH_SKIPPED(site)                ((void)(site), false)
#define NEOMM__SETTLED(top, site)                 ((void)(top), (void)(site))
#define NEOMM__ENTRY_STORED(entry, before, after) ((void)(entry), (void)(before), (void)(after))
#define NEOMM__FRAMES_ALLOCATED(frame, count)     ((void)(frame), (void)(count))
#define NEOMM__FRAMES_FREED(frame, count)         ((void)(frame), (void)(count))
#define NEOMM__OBJECT_FREED(object, size)         ((void)(object), (void)(size))
#define NEOMM__OBJECT_TAKEN(object, size)         ((void)(object), (void)(size))
#define NEOMM__SLEEPS(idle)                       ((void)(idle))
#define NEOMM__YIELD()                            ((void)0)
#define NEOMM__SPIN()                             ((void)0)
#define NEOMM__STORE_LATE(word, value)            __atomic_store_n(word, value, __ATOMIC_RELAXED)

#endif

#endif
