/* Moving pages to other frames.
 * SPDX-License-Identifier: MIT */
#ifndef NEOMM_VMM_MIGRATE_H
#define NEOMM_VMM_MIGRATE_H

#include "vmm/vmm_priv.h"

/* Could the frame's page be moved? As it looks at the moment. */
bool neomm__is_movable(const struct neomm__frame *entry);

/* Moves the frame's page to another frame. True: the frame is the caller's now, as if it had been
 * allocated. False: it could not be moved, was written to meanwhile, or is not user memory any
 * more. Without locks. */
bool neomm__migrate(struct neomm *root, neomm_frame_t frame);

#endif
