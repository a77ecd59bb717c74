/* Lock order bookkeeping.
 * SPDX-License-Identifier: MIT */
#include "lock.h"

#if NEOMM_INSTRUMENTED

/* The classes held are kept sorted. */
static void note(struct neomm_cpu *cpu, const struct neomm__lock *lock)
{
    uint32_t at = cpu->lock_depth;
    if (at >= sizeof(cpu->lock_class))
        neomm_port_panic("lock: too many locks held on one CPU");
    for (; at > 0 && cpu->lock_class[at - 1] > lock->lock_class; at--)
        cpu->lock_class[at] = cpu->lock_class[at - 1];
    cpu->lock_class[at] = (uint8_t)lock->lock_class;
    cpu->lock_depth++;
    neomm_hook_locked((enum neomm_lock_class)lock->lock_class);
}

void neomm__lock_note_taken(struct neomm__lock *lock)
{
    struct neomm_cpu *cpu = neomm_port_cpu();
    uint32_t depth = cpu->lock_depth;
    if (depth > 0 && cpu->lock_class[depth - 1] >= lock->lock_class)
        neomm_port_panic("lock: taken out of order (see NEOMM_LOCK_CLASS_LIST)");
    note(cpu, lock);
}

void neomm__lock_note_tried(struct neomm__lock *lock)
{
    note(neomm_port_cpu(), lock);
}

/* Locks may be released in any order; the stack stays sorted either way. */
void neomm__lock_note_released(struct neomm__lock *lock)
{
    struct neomm_cpu *cpu = neomm_port_cpu();
    uint32_t at = cpu->lock_depth;
    while (at > 0 && cpu->lock_class[at - 1] != lock->lock_class)
        at--;
    if (at == 0)
        neomm_port_panic("lock: released on a CPU that does not hold it");
    for (; at < cpu->lock_depth; at++)
        cpu->lock_class[at - 1] = cpu->lock_class[at];
    cpu->lock_depth--;
    neomm_hook_unlocked((enum neomm_lock_class)lock->lock_class);
}

void neomm__lock_assert_none(const char *where)
{
    if (neomm_port_cpu()->lock_depth != 0)
        neomm_port_panic(where);
}

#else

void neomm__lock_assert_none(const char *where)
{
    (void)where;
}

#endif
