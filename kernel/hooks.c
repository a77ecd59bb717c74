/* What the instrumented flavour asks of a kernel. Nothing is watched; fault points fail by plan.
 * SPDX-License-Identifier: MIT */
#include "hooks.h"

static struct {
    uint64_t passes, fail_at;
    bool forever;
} plan;

void hooks_fault_plan(uint64_t n, bool forever)
{
    plan.passes = 0;
    plan.fail_at = n;
    plan.forever = forever;
}

uint64_t hooks_fault_count(void)
{
    return plan.passes;
}

bool neomm_hook_fault(enum neomm_fault_site site)
{
    (void)site;
    plan.passes++;
    return plan.fail_at != 0 &&
           (plan.forever ? plan.passes >= plan.fail_at : plan.passes == plan.fail_at);
}

void neomm_hook_frames_allocated(neomm_frame_t frame, uint32_t count)
{
    (void)frame;
    (void)count;
}

void neomm_hook_frames_freed(neomm_frame_t frame, uint32_t count)
{
    (void)frame;
    (void)count;
}

void neomm_hook_entry_stored(neomm_paddr_t entry, uint64_t before, uint64_t after)
{
    (void)entry;
    (void)before;
    (void)after;
}

bool neomm_hook_flush_skipped(enum neomm_flush_site site)
{
    (void)site;
    return false;
}

void neomm_hook_settled(neomm_frame_t top, enum neomm_flush_site site)
{
    (void)top;
    (void)site;
}

void neomm_hook_object_freed(const void *object, size_t size)
{
    (void)object;
    (void)size;
}

void neomm_hook_object_taken(const void *object, size_t size)
{
    (void)object;
    (void)size;
}

void neomm_hook_idle(bool idle)
{
    (void)idle;
}

void neomm_hook_yield(void)
{
}

void neomm_hook_store_late(uint32_t *word, uint32_t value)
{
    __atomic_store_n(word, value, __ATOMIC_RELAXED);
}

void neomm_hook_spin(void)
{
}

void neomm_hook_locked(enum neomm_lock_class lock_class)
{
    (void)lock_class;
}

void neomm_hook_unlocked(enum neomm_lock_class lock_class)
{
    (void)lock_class;
}
