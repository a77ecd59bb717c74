/* What the profiles are made of.
 * SPDX-License-Identifier: MIT */
#ifndef NEOMM_HEAP_PROFILE_H
#define NEOMM_HEAP_PROFILE_H

#include "heap_priv.h"

/* ---- harden.c ---- */

extern const struct neomm__kmem_ops neomm__hardened_ops;

/* Where objects wait that were freed, if the cache has none yet. NEOMM_E_NOMEM. */
neomm_status neomm__quarantine_make(struct neomm *root, struct neomm_kmem *cache);

/* ---- guard.c ---- */

/* Makes the pages of guarded objects, if they are not there. NEOMM_E_NOMEM; NEOMM_E_UNSUPPORTED: no
 * page source can take access away. */
neomm_status neomm__guard_begin(struct neomm *root);

/* ---- profile.c ---- */

/* Makes the cache work as its profile, and tracking, want it. */
neomm_status neomm__profile_apply(struct neomm *root, struct neomm_kmem *cache,
                                  enum neomm_heap_profile profile, bool tracked);
/* heap->adopt: the profile that the configuration has for the cache, else that of new ones. */
neomm_status neomm__profile_adopt(struct neomm *root, struct neomm_kmem *cache);

#endif
