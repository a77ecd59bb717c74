/* What the instrumented flavour asks of a kernel: nothing fails on purpose, nothing is left out.
 * SPDX-License-Identifier: MIT */
#include <neomm/hook.h>

bool neomm_hook_fault(enum neomm_fault_site site)
{
    (void)site;
    return false;
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

void neomm_hook_yield(void)
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
