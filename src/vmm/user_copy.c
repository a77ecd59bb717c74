/* Copies between kernel and user memory.
 * SPDX-License-Identifier: MIT
 *
 * The CPU does the copy with the user's translations and rights, and its fault handler brings
 * pages in; here the range is checked, so that no user can make the kernel touch the kernel.
 */
#include "vmm/vmm_priv.h"

#include <neomm/cpu.h>

static neomm_status copy(struct neomm *root, neomm_vaddr_t user, void *kernel, size_t size,
                         bool to_user, size_t *done)
{
    if (done)
        *done = 0;
    if (size == 0)
        return NEOMM_OK;
    if (!neomm__is_user_range(root, user, size))
        return NEOMM_E_RANGE;
    neomm__lock_assert_none("user copy: may sleep, and a lock is held");
    size_t left = neomm_cpu_user_copy(user, kernel, size, to_user);
    if (done)
        *done = size - left;
    return left == 0 ? NEOMM_OK : NEOMM_E_FAULT;
}

neomm_status neomm_copy_to_user(struct neomm *root, struct neomm_space *space, neomm_vaddr_t to,
                                const void *from, size_t size, size_t *done)
{
    (void)space;
    /* The primitive only reads its kernel side in this direction. */
    return copy(root, to, (void *)(uintptr_t)from, size, true, done);
}

neomm_status neomm_copy_from_user(struct neomm *root, struct neomm_space *space, void *to,
                                  neomm_vaddr_t from, size_t size, size_t *done)
{
    (void)space;
    return copy(root, from, to, size, false, done);
}
